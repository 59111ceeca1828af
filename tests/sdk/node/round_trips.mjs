// Round trips of the published npm package `@zeldafan0225/ai_horde` against a running server.
//
//     node round_trips.mjs http://127.0.0.1:7001 FOLDER
//
// FOLDER is where the package is installed. The server must mint test users
// (`ORDU_TEST_APIKEYS=1`), and nobody else may use it. The package is used as published: its option
// `api_route` points it here. Each trip leaves the queues empty.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

const url = process.argv[2].replace(/\/$/, "");
const { AIHorde, APIError } = createRequire(join(process.argv[3], "package.json"))(
  "@zeldafan0225/ai_horde",
);

const MODEL = "stable_diffusion";
const TEXT_MODEL = "koboldcpp/tiny-1b";
const IMAGE_AGENT = "AI Horde Worker reGen:10.0.0:https://example.org";
const TEXT_AGENT = "KoboldCppEmbedWorker:2:https://example.org";
const NOBODY = "00000000-0000-4000-8000-000000000000";
// Between trips, in milliseconds: an address may ask ten times a second at most.
const PAUSE = 200;
// A red square of 64 pixels.
const WEBP = Buffer.from("UklGRiIAAABXRUJQVlA4TBUAAAAvP8APAAcQ/Y/+B4CE8P+9FtH/1A8A", "base64");

const asker = await mint("npm asker");
const owner = await mint("npm owner");
const horde = new AIHorde({
  api_route: `${url}/api/v2`,
  default_token: asker,
  client_agent: "ordu-round-trips:v1:https://example.org",
});
const asWorker = { token: owner };
// The package keeps answers for a while unless told otherwise.
const fresh = { force: true };

/** Makes a trusted user and returns its key. */
async function mint(name, moderator = false) {
  const user = { username: name, oauth_id: name, trusted: true, moderator, kudos: 20000 };
  const answer = await fetch(`${url}/api/v2/dev/test-user`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(user),
  });
  assert.ok(answer.ok, `no test user: ${answer.status}`);
  return (await answer.json()).api_key;
}

/** A call that is refused with a status and a code. */
async function refused(call, status, code) {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof APIError, String(error));
    assert.equal(error.status, status);
    assert.equal(error.rawError.rc, code);
    assert.ok(error.rawError.message);
    return true;
  });
}

async function upload(link) {
  const headers = { "Content-Type": "image/webp" };
  const answer = await fetch(link, { method: "PUT", headers, body: WEBP });
  assert.equal(answer.status, 200);
}

async function picture(link) {
  const answer = await fetch(link);
  assert.equal(answer.status, 200);
  return Buffer.from(await answer.arrayBuffer());
}

// Images.

const askImage = (changes = {}) =>
  horde.postAsyncImageGenerate({
    prompt: "a red square",
    models: [MODEL],
    params: { width: 512, height: 512, steps: 20, sampler_name: "k_euler", n: 1 },
    r2: true,
    ...changes,
  });

const popImage = (options = asWorker) =>
  horde.postImageGenerationPop(
    {
      name: "npm dreamer",
      models: [MODEL],
      bridge_agent: IMAGE_AGENT,
      bridge_version: 10,
      max_pixels: 1024 * 1024,
      nsfw: true,
      threads: 1,
    },
    options,
  );

async function deliverImage(job) {
  assert.equal(job.r2_uploads.length, 1);
  await upload(job.r2_uploads[0]);
  const submit = { id: job.id, generation: "R2", seed: Number(job.payload.seed), state: "ok" };
  assert.ok((await horde.postImageGenerationSubmit(submit, asWorker)).reward > 0);
}

// Text.

const askText = () =>
  horde.postAsyncTextGenerate({
    prompt: "Once upon a time",
    models: [TEXT_MODEL],
    params: { max_length: 16, max_context_length: 1024, n: 1 },
  });

const popText = () =>
  horde.postTextGenerationPop(
    {
      name: "npm scribe",
      models: [TEXT_MODEL],
      bridge_agent: TEXT_AGENT,
      bridge_version: 2,
      max_length: 128,
      max_context_length: 2048,
      nsfw: true,
      threads: 1,
    },
    asWorker,
  );

const submitText = (id) =>
  horde.postTextGenerationSubmit({ id, generation: " there was a horde.", state: "ok" }, asWorker);

// Alchemy.

const askAlchemy = (...names) =>
  horde.postAsyncInterrogate({
    forms: names.map((name) => ({ name })),
    source_image: WEBP.toString("base64"),
  });

const popForms = (...forms) =>
  horde.postInterrogationPop(
    { name: "npm alchemist", forms, amount: forms.length, bridge_version: 1, threads: 1 },
    asWorker,
  );

const submitForm = (id, result) => horde.postInterrogationSubmit({ id, result }, asWorker);

const trips = {
  async "image: a picture is asked, popped, uploaded, submitted and fetched"() {
    const asked = await askImage();
    assert.ok(asked.id && asked.kudos > 1);
    const waiting = await horde.getImageGenerationCheck(asked.id, fresh);
    assert.deepEqual([waiting.waiting, waiting.done], [1, false]);

    const job = await popImage();
    assert.equal(job.model, MODEL);
    assert.equal(job.payload.prompt, "a red square");
    await deliverImage(job);

    const status = await horde.getImageGenerationStatus(asked.id, fresh);
    assert.equal(status.done, true);
    const [generation] = status.generations;
    assert.equal(generation.state, "ok");
    assert.equal(generation.censored, false);
    assert.equal(generation.seed, job.payload.seed);
    assert.deepEqual(await picture(generation.img), WEBP);
  },

  async "image: without r2 the worker still uploads, and the requester gets base64"() {
    const asked = await askImage({ r2: false });
    await deliverImage(await popImage());
    const { generations } = await horde.getImageGenerationStatus(asked.id, fresh);
    assert.deepEqual(Buffer.from(generations[0].img, "base64"), WEBP);
  },

  async "image: the source picture reaches the worker with the job"() {
    const source_image = WEBP.toString("base64");
    await askImage({ source_image, source_processing: "img2img" });
    const job = await popImage();
    assert.equal(job.source_processing, "img2img");
    assert.equal((await picture(job.source_image)).subarray(8, 12).toString(), "WEBP");
    await deliverImage(job);
  },

  async "image: a deleted request is not handed out, and an idle pop has a null id"() {
    const asked = await askImage();
    await horde.deleteImageGenerationRequest(asked.id);
    const idle = await popImage();
    assert.deepEqual([idle.id, idle.ids, idle.model], [null, [], null]);
    assert.equal(typeof idle.payload, "object");
    assert.equal(idle.skipped.models, 0);
  },

  async "image: masked answers have the asked fields only"() {
    const asked = await askImage();
    const fields = ["done", "waiting"];
    const masked = await horde.getImageGenerationCheck(asked.id, { ...fresh, fields });
    assert.deepEqual(masked, { done: false, waiting: 1 });
    const job = await popImage({ ...asWorker, fields: ["id", "r2_uploads", "payload"] });
    assert.deepEqual(Object.keys(job).sort(), ["id", "payload", "r2_uploads"]);
    await deliverImage(job);
  },

  async "text: a text is asked, popped, submitted and fetched"() {
    const asked = await askText();
    const job = await popText();
    assert.deepEqual(job.ids, [job.id]);
    assert.equal(job.payload.prompt, "Once upon a time");
    assert.ok((await submitText(job.id)).reward > 0);
    await refused(submitText(job.id), 400, "DuplicateGen");
    const status = await horde.getTextGenerationStatus(asked.id, fresh);
    assert.equal(status.done, true);
    assert.equal(status.generations[0].text, " there was a horde.");
    assert.equal(status.generations[0].state, "ok");
    assert.equal("id" in status.generations[0], false);
  },

  async "text: a deleted request is not handed out, and an idle pop has a null id"() {
    const asked = await askText();
    await horde.deleteTextGenerationRequest(asked.id);
    const idle = await popText();
    assert.deepEqual([idle.id, idle.ids, idle.model], [null, [], null]);
    assert.equal(typeof idle.payload, "object");
  },

  async "alchemy: two forms are asked, popped, submitted and fetched"() {
    const interrogation = { tags: [{ text: "a square", confidence: 0.5 }], sites: [] };
    const results = { caption: { caption: "a red square" }, interrogation: { interrogation } };
    const asked = await askAlchemy(...Object.keys(results));
    const waiting = await horde.getInterrogationStatus(asked.id, fresh);
    for (const form of waiting.forms) assert.deepEqual(Object.keys(form), ["form", "state"]);

    const { forms } = await popForms(...Object.keys(results));
    assert.equal(forms.length, 2);
    for (const form of forms) {
      assert.equal((await picture(form.source_image)).subarray(8, 12).toString(), "WEBP");
      assert.ok((await submitForm(form.id, results[form.form])).reward > 0);
    }
    const status = await horde.getInterrogationStatus(asked.id, fresh);
    assert.equal(status.state, "done");
    for (const form of status.forms) assert.deepEqual(form.result, results[form.form]);
  },

  async "alchemy: an upscaled picture is uploaded and comes back as a link"() {
    const asked = await askAlchemy("RealESRGAN_x4plus");
    const [form] = (await popForms("RealESRGAN_x4plus")).forms;
    await upload(form.r2_upload);
    await submitForm(form.id, { RealESRGAN_x4plus: "R2" });
    const status = await horde.getInterrogationStatus(asked.id, fresh);
    assert.deepEqual(await picture(status.forms[0].result.RealESRGAN_x4plus), WEBP);
  },

  async "alchemy: a deleted request is not handed out, and an idle pop has null forms"() {
    const asked = await askAlchemy("caption");
    const deleted = await horde.deleteInterrogationRequest(asked.id);
    assert.equal(deleted.forms[0].state, "cancelled");
    assert.equal((await popForms("caption")).forms, null);
  },

  async "user: the key finds its user, who is found by number too"() {
    const user = await horde.findUser({ token: asker });
    assert.equal(user.username, `npm asker#${user.id}`);
    const details = await horde.getUserDetails(user.id, { ...fresh, fields: ["username"] });
    assert.deepEqual(details, { username: user.username });
  },

  async "worker: maintenance shows in a refused pop, and ends"() {
    await popImage();
    const { worker_ids } = await horde.findUser(asWorker);
    for (const id of worker_ids) {
      const changed = await horde.updateWorker({ maintenance: true }, id, asWorker);
      assert.equal(changed.maintenance, true);
    }
    await refused(popImage(), 403, "WorkerMaintenance");
    for (const id of worker_ids) await horde.updateWorker({ maintenance: false }, id, asWorker);
    assert.equal((await popImage()).id, null);
  },

  async "filters: a moderator tries a prompt, others may not"() {
    const moderator = { token: await mint("npm moderator", true) };
    const tried = await horde.postFilters({ prompt: "a red square" }, moderator);
    assert.deepEqual([tried.suspicion, tried.matches], ["0", []]);
    assert.ok(Array.isArray(await horde.getFilters({}, moderator)));
    await refused(horde.postFilters({ prompt: "x" }, asWorker), 403, "NotModerator");
  },

  async "status: heartbeat, performance, models, workers and modes"() {
    assert.equal(await horde.getHeartbeat(), true);
    assert.equal((await horde.getPerformance(fresh)).queued_requests, 0);
    assert.ok(Array.isArray(await horde.getModels(fresh)));
    const [model] = await horde.getModel(MODEL, fresh);
    assert.ok(model.count >= 1);
    assert.ok(Array.isArray(await horde.getWorkers(fresh)));
    // A key that is no moderator's may not look.
    await refused(horde.getModes({ ...fresh, token: asker }), 403, "NotModerator");
  },

  async "errors: refusals carry a code, faults in the payload name the field"() {
    const request = { prompt: "x", models: [MODEL] };
    const unknown = { token: "unknown-unknown-unknow" };
    await refused(horde.postAsyncImageGenerate(request, unknown), 401, "InvalidAPIKey");
    await refused(popImage({ token: "0000000000" }), 403, "AnonForbiddenWorker");
    await refused(horde.getImageGenerationCheck(NOBODY, fresh), 404, "RequestNotFound");
    await refused(deliverNothing(), 404, "InvalidJobID");
    await assert.rejects(askImage({ params: { width: 500 } }), (error) => {
      assert.equal(error.status, 400);
      assert.deepEqual(Object.keys(error.errors), ["params.width"]);
      return true;
    });
  },
};

const deliverNothing = () =>
  horde.postImageGenerationSubmit({ id: NOBODY, generation: "R2", seed: 1 }, asWorker);

let failed = 0;
for (const [name, trip] of Object.entries(trips)) {
  await new Promise((done) => setTimeout(done, PAUSE));
  try {
    await trip();
    console.log(`ok node ${name}`);
  } catch (fault) {
    failed += 1;
    console.log(`FAILED node ${name}\n    ${where(fault)}\n    ${fault}`);
  }
}
console.log(`node: ${Object.keys(trips).length - failed} passed, ${failed} failed`);
// The package's caches keep timers running.
process.exit(failed ? 1 : 0);

/** The line of this file that failed. */
function where(fault) {
  return (fault.stack ?? "").split("\n").find((line) => line.includes("round_trips.mjs")) ?? "";
}
