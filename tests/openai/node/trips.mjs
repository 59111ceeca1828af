// Trips of OpenAI's npm package, as published, through a horde with its built-in models.
//
//     node trips.mjs http://127.0.0.1:7001 FOLDER
//
// FOLDER is where the package is installed.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const url = process.argv[2].replace(/\/$/, "");
const OpenAI = createRequire(join(process.argv[3], "package.json"))("openai");

// How long the built-in worker may take to look for its first job, in milliseconds.
const PATIENCE = 60_000;
// Between trips, in milliseconds: an address may ask twice a second at most.
const PAUSE = 1000;
const PROMPT = "a large red circle at the center on a blue background";
const PNG = Buffer.from([0x89, 0x50, 0x4e, 0x47]);

const settings = { baseURL: `${url}/v1`, apiKey: "0000000000", maxRetries: 0, timeout: 120_000 };
const client = new OpenAI(settings);

async function models() {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    const text = names.find((name) => name.includes("ordu-tiny-text"));
    if (text && names.includes("ordu-tiny")) return text;
    assert.ok(Date.now() < end, `only ${names}`);
    await sleep(500);
  }
}

const ask = (model) => ({
  model,
  messages: [{ role: "user", content: "A red circle" }],
  temperature: 0,
  max_tokens: 400,
  // A story of its usual length is told before anybody can look on.
  ignore_eos: true,
});

const trips = {
  "the models of a horde are listed": models,
  "a conversation is answered word by word": async () => {
    const model = await models();
    const whole = await client.chat.completions.create(ask(model));
    assert.ok(whole.usage.completion_tokens > 0);
    const pieces = [];
    for await (const chunk of await client.chat.completions.create({ ...ask(model), stream: true })) {
      if (chunk.choices[0]?.delta.content) pieces.push(chunk.choices[0].delta.content);
    }
    assert.ok(pieces.length > 1, `it came in one piece: ${pieces}`);
    assert.equal(pieces.join(""), whole.choices[0].message.content);
  },
  "a text goes on": async () => {
    const answer = await client.completions.create({ model: "any", prompt: "A blue square" });
    assert.ok(answer.choices[0].text.length > 0);
  },
  "a picture comes in the answer": async () => {
    const size = "64x64";
    const asked = { prompt: PROMPT, size, response_format: "b64_json" };
    const answer = await client.images.generate(asked);
    const file = Buffer.from(answer.data[0].b64_json, "base64");
    assert.deepEqual(file.subarray(0, 4), PNG);
  },
  "a picture is made of another one": async () => {
    const first = { prompt: PROMPT, size: "64x64", response_format: "b64_json" };
    const source = await client.images.generate(first);
    const file = Buffer.from(source.data[0].b64_json, "base64");
    await sleep(PAUSE);
    const image = await OpenAI.toFile(file, "picture.png", { type: "image/png" });
    const answer = await client.images.edit({ ...first, image });
    const made = Buffer.from(answer.data[0].b64_json, "base64");
    assert.deepEqual(made.subarray(0, 4), PNG);
  },
  "what goes wrong is one of the package's own errors": async () => {
    const stranger = new OpenAI({ ...settings, apiKey: "sk-nothing" });
    await assert.rejects(async () => void (await stranger.models.list()), (error) => {
      assert.ok(error instanceof OpenAI.AuthenticationError, String(error));
      assert.equal(error.code, "invalid_api_key");
      return true;
    });
    await assert.rejects(client.chat.completions.create(ask("gpt-4o")), (error) => {
      assert.ok(error instanceof OpenAI.NotFoundError, String(error));
      assert.equal(error.code, "model_not_found");
      return true;
    });
  },
};

let failed = 0;
for (const [name, trip] of Object.entries(trips)) {
  await sleep(PAUSE);
  try {
    await trip();
    console.log(`ok node ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED node ${name}\n${error.stack ?? error}`);
  }
}
process.exit(failed ? 1 : 0);
