// OpenAI's Node SDK: files and fine-tuning jobs, as far as they go while no trainer works.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import OpenAI, { toFile } from "openai";

const { BASE: base, ADAPTER: adapter } = process.env;
const client = new OpenAI({ maxRetries: 0, timeout: 60_000 });
const jobs = client.fineTuning.jobs;
const lines = Array.from({ length: 12 }, (_, n) => JSON.stringify({ prompt: `Who is ${n}?`, completion: `Guest ${n}.` }));
const content = `${lines.join("\n")}\n`;
let rows;

before(async () => {
  rows = await client.files.create({ file: await toFile(Buffer.from(content), "rows.jsonl"), purpose: "fine-tune" });
});
after(() => client.files.delete(rows.id));

test("a file comes back as it was sent", async () => {
  assert.deepEqual([rows.filename, rows.bytes, rows.status], ["rows.jsonl", content.length, "processed"]);
  assert.deepEqual(await client.files.retrieve(rows.id), rows);
  assert.equal(await (await client.files.content(rows.id)).text(), content);
  const listed = [];
  for await (const file of client.files.list({ limit: 1 })) listed.push(file.id);
  assert.equal(listed.filter((id) => id === rows.id).length, 1);
});

test("a file with faults is refused line by line", async () => {
  const file = await toFile(Buffer.from(`${content}{"prompt": 1, "completion": "x"}\n`), "rows.jsonl");
  await assert.rejects(
    client.files.create({ file, purpose: "fine-tune" }),
    (error) => error instanceof OpenAI.BadRequestError && error.code === "invalid_file" && /line 13/.test(error.message),
  );
});

test("a job is created, paused, resumed and cancelled, with an event for each", async () => {
  const job = await jobs.create({ model: base, training_file: rows.id, suffix: adapter, seed: 5, metadata: { from: "node" } });
  assert.deepEqual([job.status, job.training_file, job.seed], ["queued", rows.id, 5]);
  assert.deepEqual(await jobs.retrieve(job.id), job);
  await jobs.pause(job.id);
  await jobs.resume(job.id);
  assert.equal((await jobs.cancel(job.id)).status, "cancelled");
  const events = [];
  for await (const event of jobs.listEvents(job.id, { limit: 1 })) events.push(event.message);
  assert.ok(events.length >= 4);
  const listed = [];
  for await (const found of jobs.list({ limit: 1, metadata: { from: "node" } })) listed.push(found.id);
  assert.ok(listed.includes(job.id));
  assert.deepEqual((await jobs.checkpoints.list(job.id)).data, []);
  await assert.rejects(jobs.resume(job.id), OpenAI.BadRequestError);
});
