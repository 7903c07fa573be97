// OpenAI's Node SDK: the Responses API.

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { zodResponsesFunction, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const { BASE: base, ADAPTER: adapter } = process.env;
const client = new OpenAI({ maxRetries: 0, timeout: 60_000 });
const options = { model: base, input: "What is the capital of France?", temperature: 0, max_output_tokens: 24 };
const Report = z.object({ colour: z.enum(["red", "green"]), urgent: z.boolean() });
const weather = zodResponsesFunction({ name: "weather", parameters: z.object({ city: z.enum(["Seoul", "Paris"]) }) });

test("an answer is whole, and an alias answers with its version", async () => {
  const answer = await client.responses.create(options);
  assert.match(answer.output_text, /Paris/);
  assert.equal(answer.status, "completed");
  assert.equal((await client.responses.create({ ...options, model: adapter })).model, `${adapter}@1`);
});

test("events and the stream helper spell the same answer", async () => {
  const plain = (await client.responses.create(options)).output_text;
  let text = "";
  for await (const event of await client.responses.create({ ...options, stream: true })) {
    if (event.type === "response.output_text.delta") text += event.delta;
  }
  assert.equal(text, plain);
  assert.equal((await client.responses.stream(options).finalResponse()).output_text, plain);
});

test("an answer is parsed by its schema, and arguments by their function's", async () => {
  const answer = await client.responses.parse({
    model: base,
    input: "My red bicycle was stolen. Sort this report, as JSON.",
    text: { format: zodTextFormat(Report, "report") },
    max_output_tokens: 100,
  });
  Report.parse(answer.output_parsed);
  const called = await client.responses.parse({
    model: base,
    input: "What is the weather in Seoul?",
    tools: [weather],
    tool_choice: "required",
    max_output_tokens: 200,
  });
  const calls = called.output.filter((item) => item.type === "function_call");
  assert.ok(calls.length > 0);
  for (const call of calls) assert.match(call.parsed_arguments.city, /^(Seoul|Paris)$/);
});

test("a conversation goes on by its id, and one that is not there is named", async () => {
  const first = await client.responses.create(options);
  const second = await client.responses.create({ ...options, input: "And of Italy?", previous_response_id: first.id });
  assert.deepEqual((await client.responses.retrieve(second.id)).output, second.output);
  await client.responses.delete(second.id);
  await assert.rejects(
    client.responses.create({ ...options, previous_response_id: second.id }),
    (error) => error instanceof OpenAI.BadRequestError && error.code === "previous_response_not_found",
  );
});
