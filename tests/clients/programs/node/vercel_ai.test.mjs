// Vercel's AI SDK through its provider for OpenAI-compatible servers.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateObject, generateText, Output, streamText, tool } from "ai";
import { z } from "zod";

globalThis.AI_SDK_LOG_WARNINGS = false; // of generateObject, which is asked for on purpose
const { BASE: base, ADAPTER: adapter, OPENAI_BASE_URL: baseURL, OPENAI_API_KEY: apiKey } = process.env;
const options = { name: "whetstone", baseURL, supportsStructuredOutputs: true, includeUsage: true };
const provider = createOpenAICompatible({ ...options, apiKey });
const model = provider(base);
const common = { model, maxRetries: 0, temperature: 0, maxOutputTokens: 100 };
const prompt = "What is the capital of France?";
const schema = z.object({ colour: z.enum(["red", "green"]), urgent: z.boolean() });
const report = "My red bicycle was stolen. Sort this report, as JSON.";

test("generateText answers, with its usage and the version that answered", async () => {
  const answer = await generateText({ ...common, prompt });
  assert.match(answer.text, /Paris/);
  assert.equal(answer.finishReason, "stop");
  assert.ok(answer.usage.outputTokens > 0);
  const aliased = await generateText({ ...common, model: provider(adapter), prompt, maxOutputTokens: 1 });
  assert.equal(aliased.response.modelId, `${adapter}@1`);
});

test("streamText spells the same answer", async () => {
  const plain = await generateText({ ...common, prompt });
  const streamed = streamText({ ...common, prompt });
  let text = "";
  for await (const piece of streamed.textStream) text += piece;
  assert.equal(text, plain.text);
  assert.deepEqual((await streamed.usage).outputTokens, plain.usage.outputTokens);
});

test("outputs and generateObject give objects of their schema", async () => {
  const output = Output.object({ schema });
  schema.parse((await generateText({ ...common, output, prompt: report })).output);
  const streamed = streamText({ ...common, output, prompt: report });
  const parts = [];
  for await (const part of streamed.partialOutputStream) parts.push(part);
  assert.deepEqual(schema.parse(await streamed.output), parts.at(-1));
  schema.parse((await generateObject({ ...common, schema, prompt: report })).object); // deprecated, and in every app
});

test("a tool is called and its result taken back", async () => {
  const asked = [];
  const weather = tool({
    description: "Look up the weather of a city.",
    inputSchema: z.object({ city: z.enum(["Seoul", "Paris"]) }),
    execute: async ({ city }) => asked.push(city),
  });
  const answer = await generateText({
    ...common,
    prompt: "What is the weather in Seoul?",
    tools: { weather },
    stopWhen: ({ steps }) => steps.length === 2,
    prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
  });
  assert.ok(asked.length > 0);
  assert.equal(answer.steps[0].finishReason, "tool-calls");
  assert.ok(answer.text);
});

test("a wrong key is an error that says so", async () => {
  const stranger = createOpenAICompatible({ ...options, apiKey: "ws-nobody" });
  await assert.rejects(
    generateText({ ...common, model: stranger(base), prompt }),
    (error) => APICallError.isInstance(error) && error.statusCode === 401,
  );
});
