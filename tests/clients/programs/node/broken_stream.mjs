// Streams that the server breaks off. Run by itself and last: it costs the server its life.

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0, timeout: 60_000 });
const model = process.env.BASE;
const story = "Tell me a very long story about the sea.";
// No end-of-turn token: the answer is still running when the engine ends.
const endless = { model, messages: [{ role: "user", content: story }], logit_bias: { 2: -100 }, max_tokens: 1500 };

test("half an answer raises", async () => {
  const plain = (await client.chat.completions.create({ ...endless, stream: true }))[Symbol.asyncIterator]();
  await plain.next();
  console.log("streaming"); // whoever breaks the streams waits for it
  await assert.rejects(
    async () => {
      while (!(await plain.next()).done);
    },
    (error) => error instanceof OpenAI.APIError && /engine failed/.test(error.message),
  );
});
