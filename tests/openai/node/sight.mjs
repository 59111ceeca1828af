// A trip of OpenAI's npm package, as published, through a horde with a worker that looks at pictures.
//
//     node sight.mjs http://127.0.0.1:7001 FOLDER
//
// FOLDER is where the package is installed. The worker stands in front of tests/openai/python/seer.py,
// which names the colours of pictures.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const url = process.argv[2].replace(/\/$/, "");
const OpenAI = createRequire(join(process.argv[3], "package.json"))("openai");
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "0000000000", maxRetries: 0, timeout: 120_000 });

// How long the worker may take to look for its first job, in milliseconds.
const PATIENCE = 60_000;
// One red pixel, as PNG.
const RED = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGN4pqEBAAMuATcNPhkWAAAAAElFTkSuQmCC";

async function seeingModel() {
  const end = Date.now() + PATIENCE;
  for (;;) {
    for await (const model of client.models.list()) if (model.vision) return model.id;
    assert.ok(Date.now() < end, "no model sees");
    await sleep(1000);
  }
}

const name = "a conversation is about a picture";
try {
  const image_url = { url: `data:image/png;base64,${RED}` };
  const content = [{ type: "text", text: "Which colour?" }, { type: "image_url", image_url }];
  const answer = await client.chat.completions.create({
    model: await seeingModel(),
    messages: [{ role: "user", content }],
  });
  assert.equal(answer.choices[0].message.content, "red");
  console.log(`ok node ${name}`);
} catch (error) {
  console.log(`FAILED node ${name}\n${error.stack ?? error}`);
  process.exit(1);
}
