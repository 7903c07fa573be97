// OpenAI's Node SDK, which finds server and key by its own environment variables: chat, text and models.

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const { BASE: base, ADAPTER: adapter, NARROW_KEY: narrowKey } = process.env;
const client = new OpenAI({ maxRetries: 0, timeout: 60_000 });
const question = [{ role: "user", content: "What is the capital of France?" }];
const Report = z.object({ colour: z.enum(["red", "green"]), urgent: z.boolean() });
const weather = zodFunction({ name: "weather", parameters: z.object({ city: z.enum(["Seoul", "Paris"]) }) });
const askWeather = [{ role: "user", content: "What is the weather in Seoul?" }];

test("an answer is whole, and an alias answers with its version", async () => {
  const answer = await client.chat.completions.create({ model: base, messages: question, temperature: 0, max_tokens: 24 });
  assert.match(answer.choices[0].message.content, /Paris/);
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  assert.ok(answer._request_id);
  const aliased = await client.chat.completions.create({ model: adapter, messages: question, max_tokens: 1 });
  assert.equal(aliased.model, `${adapter}@1`);
});

test("chunks and the stream helper spell the same answer", async () => {
  const options = { model: base, messages: question, temperature: 0, max_tokens: 24 };
  const plain = (await client.chat.completions.create(options)).choices[0].message.content;
  let text = "";
  let usage = null;
  const chunks = await client.chat.completions.create({ ...options, stream: true, stream_options: { include_usage: true } });
  for await (const chunk of chunks) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, plain);
  assert.ok(usage.completion_tokens > 0);
  assert.equal(await client.chat.completions.stream(options).finalContent(), plain);
});

test("an answer is parsed by its schema, plain and streamed", async () => {
  const options = {
    model: base,
    messages: [{ role: "user", content: "My red bicycle was stolen. Sort this report, as JSON." }],
    response_format: zodResponseFormat(Report, "report"),
    max_tokens: 100,
  };
  const answer = await client.chat.completions.parse(options);
  Report.parse(answer.choices[0].message.parsed);
  const streamed = await client.chat.completions.stream(options).finalChatCompletion();
  Report.parse(streamed.choices[0].message.parsed);
});

test("calls are made where they are required, with parsed arguments", async () => {
  const options = { model: base, messages: askWeather, tools: [weather], max_tokens: 200 };
  const required = await client.chat.completions.parse({ ...options, tool_choice: "required" });
  assert.ok(required.choices[0].message.tool_calls.length > 0);
  for (const call of required.choices[0].message.tool_calls) {
    assert.match(call.function.parsed_arguments.city, /^(Seoul|Paris)$/);
  }
  const named = { type: "function", function: { name: "weather" } };
  const streamed = client.chat.completions.stream({ ...options, tool_choice: named, parallel_tool_calls: false });
  const call = await streamed.finalFunctionToolCall();
  assert.equal(call.name, "weather");
  assert.match(JSON.parse(call.arguments).city, /^(Seoul|Paris)$/);
});

test("the tool runner calls the function and hands its result back", async () => {
  const asked = [];
  const runner = client.chat.completions.runTools({
    model: base,
    messages: askWeather,
    max_tokens: 200,
    tool_choice: { type: "function", function: { name: "weather" } },
    parallel_tool_calls: false,
    tools: [
      zodFunction({
        name: "weather",
        parameters: z.object({ city: z.enum(["Seoul", "Paris"]) }),
        function: ({ city }) => asked.push(city),
      }),
    ],
  });
  await runner.done();
  assert.equal(asked.length, 1);
  assert.equal(runner.messages.at(-1).role, "tool");
});

test("texts are continued, plain and streamed", async () => {
  const options = { model: base, prompt: "The capital of France is", temperature: 0, max_tokens: 4 };
  const plain = (await client.completions.create(options)).choices[0].text;
  assert.match(plain, /Paris/);
  let text = "";
  for await (const chunk of await client.completions.create({ ...options, stream: true })) {
    text += chunk.choices[0].text;
  }
  assert.equal(text, plain);
});

test("models are listed and retrieved", async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  for (const name of [base, adapter, `${adapter}@1`]) assert.ok(names.includes(name));
  assert.equal((await client.models.retrieve(`${adapter}@1`)).owned_by, "whetstone");
});

test("errors are the SDK's exception classes", async () => {
  const ask = (model, from = client) => from.chat.completions.create({ model, messages: question });
  await assert.rejects(ask(base, client.withOptions({ apiKey: "ws-nobody" })), OpenAI.AuthenticationError);
  await assert.rejects(ask(base, client.withOptions({ apiKey: narrowKey })), OpenAI.PermissionDeniedError);
  await assert.rejects(ask("nobody"), OpenAI.NotFoundError);
  await assert.rejects(
    client.chat.completions.create({ model: base, messages: question, temperature: 9 }),
    (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature",
  );
  await assert.rejects(client.embeddings.create({ model: base, input: "the sea" }), OpenAI.BadRequestError);
});

test("headers say how long it took and how much more may be asked for", async () => {
  const { data, response } = await client.chat.completions
    .create({ model: base, messages: question, max_tokens: 1 })
    .withResponse();
  assert.equal(data.model, base);
  assert.ok(Number(response.headers.get("openai-processing-ms")) > 0);
  assert.ok(Number(response.headers.get("x-ratelimit-remaining-requests")) >= 0);
});
