// The web page in a real browser, against `ordu up` with its built-in models.
//
//     node trips.mjs ORDU CHROMIUM FOLDER OUT
//
// ORDU is the binary, CHROMIUM the browser, FOLDER is where the packages are installed; the data of the
// horde and the screenshots go to OUT.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [ordu, executablePath, home, out] = process.argv.slice(2);
const require = createRequire(join(home, "package.json"));
const { chromium } = require("playwright-core");
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

// What a page may weigh without pictures, in bytes.
const HEAVIEST = 150_000;
// How long the built-in worker may take to look for its first job, and a picture to come, in milliseconds.
const PATIENCE = 90_000;
const SIZES = [{ width: 360, height: 740 }, { width: 1440, height: 900 }];
const SCHEMES = ["light", "dark"];
const PAGES = ["/", "/text", "/alchemy", "/horde", "/live", "/account", "/register", "/transfer", "/moderate", "/api/", "/terms"];
const PROMPT = "a large red circle at the center on a blue background";

mkdirSync(join(out, "screenshots"), { recursive: true });
const data = join(out, "data");

/** The horde that the trips are made through. */
const horde = {
  async start(listen = "127.0.0.1:0") {
    this.process = spawn(ordu, ["up", "--listen", listen, "--data", data], { stdio: ["ignore", "pipe", "pipe"] });
    let log = "";
    const url = await new Promise((found, failed) => {
      const read = (piece) => {
        log += piece;
        writeFileSync(join(out, "server.log"), log);
        const line = /listening on (http\S+)/.exec(log);
        if (line) found(line[1]);
      };
      this.process.stdout.on("data", read);
      this.process.stderr.on("data", read);
      this.process.on("exit", (code) => failed(new Error(`the server ended with ${code}:\n${log}`)));
    });
    this.url = url.replace(/\/$/, "");
  },
  async stop(signal = "SIGTERM") {
    const gone = new Promise((done) => { this.process.once("exit", done); });
    this.process.removeAllListeners("exit");
    this.process.once("exit", () => {});
    this.process.kill(signal);
    await Promise.race([gone, new Promise((done) => { this.process.once("close", done); })]);
  },
  get admin() { return readFileSync(join(data, "admin.key"), "utf8").trim(); },
};

await horde.start();
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });

/** A tab in a browser of its own. What it asks others for, and what it complains of, fails the trip. */
async function visit(path, work, { size = SIZES[1], scheme = "light", scripts = true } = {}) {
  const context = await browser.newContext({
    baseURL: horde.url, viewport: size, colorScheme: scheme, javaScriptEnabled: scripts, reducedMotion: "reduce",
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const wrong = [];
  page.on("request", (request) => {
    const { protocol, origin } = new URL(request.url());
    if (protocol !== "data:" && protocol !== "blob:" && origin !== horde.url) wrong.push(`it asks ${request.url()}`);
  });
  page.on("pageerror", (error) => wrong.push(`a script failed: ${error.message}`));
  page.on("console", (message) => {
    const isOurs = message.type() === "error" && !/Failed to load resource|ERR_/.test(message.text());
    if (isOurs) wrong.push(`the console says: ${message.text()}`);
  });
  try {
    const answer = await page.goto(path);
    const told = await work(page, answer);
    assert.deepEqual(wrong, []);
    return told;
  } catch (error) {
    await shot(page, "failed").catch(() => {});
    const main = await page.locator("main").innerText().catch(() => "");
    error.stack += `\n${wrong.join("\n")}\nThe page said:\n${main.slice(-1500)}`;
    throw error;
  } finally {
    await context.close();
  }
}

const shot = (page, name) => page.screenshot({ path: join(out, "screenshots", `${name}.png`), fullPage: true });

/** What axe finds wrong. */
async function axe(page) {
  await page.evaluate(AXE);
  const found = await page.evaluate(() => window.axe.run(document, {
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
  }));
  return found.violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html).slice(0, 3).join(" ")}`);
}

/** Sets a small picture up. */
async function fill(page, prompt = PROMPT) {
  await page.getByLabel("What to paint").fill(prompt);
  for (const label of ["Width", "Height"]) await page.getByLabel(label, { exact: true }).fill("64");
  await page.getByLabel("Steps", { exact: true }).fill("25");
}

const done = (page) => page.locator("#gallery .card figure img").first();

async function register(page, name) {
  await page.goto("/register");
  await page.getByLabel("Name").fill(name);
  await page.getByRole("button", { name: "Register" }).click();
  return page.locator("output.key").textContent();
}

const trips = {};
for (const path of PAGES) {
  trips[`${path}: no barrier, small and large, light and dark`] = async () => {
    for (const size of SIZES) {
      for (const scheme of SCHEMES) {
        await visit(path, async (page, answer) => {
          assert.equal(answer.status(), 200);
          const policy = answer.headers()["content-security-policy"];
          assert.ok(policy?.includes("default-src 'none'") && !policy.includes("unsafe"), policy);
          assert.deepEqual(await axe(page), [], `${size.width} ${scheme}`);
          const wide = await page.evaluate(() => document.documentElement.scrollWidth);
          assert.ok(wide <= size.width, `it is ${wide} pixels wide on a screen of ${size.width}`);
          const name = path.replaceAll("/", "") || "pictures";
          await shot(page, `${name}-${size.width}-${scheme}`);
        }, { size, scheme });
      }
    }
  };
}

Object.assign(trips, {
  "every page is light, and says something without scripts": async () => {
    for (const path of PAGES) {
      await visit(path, async (page) => {
        let weight = 0;
        page.on("response", async (response) => {
          if (!/image|webp/.test(response.headers()["content-type"] ?? "")) weight += (await response.body().catch(() => "")).length;
        });
        await page.goto(path, { waitUntil: "load" });
        await page.waitForTimeout(300);
        assert.ok(weight > 0 && weight <= HEAVIEST || path === "/api/", `${path} weighs ${weight}`);
      });
      await visit(path, async (page) => {
        assert.ok(await page.locator("h1").first().isVisible(), path);
      }, { scripts: false });
    }
  },

  "without scripts a picture is made all the same": () => visit("/", async (page) => {
    await fill(page);
    await page.getByRole("button", { name: "Paint" }).click();
    await page.waitForURL(/\/requests\//);
    await page.locator(".gallery img").waitFor();
  }, { scripts: false }),

  "who registers makes a picture, sees it grow, keeps it, and has it again by its seed": () => visit("/", async (page) => {
    const key = await register(page, "painter");
    await page.goto("/");
    assert.equal(await page.getByLabel("Key").inputValue(), key, "the key is at hand");
    await fill(page);
    // Long enough for a worker to report more than once, also on a fast machine.
    await page.getByLabel("Steps", { exact: true }).fill("200");
    await page.locator("#price", { hasText: /^\d.* kudos$/ }).waitFor();
    await page.evaluate(() => {
      window.seen = new Set();
      new MutationObserver(() => {
        const bar = document.querySelector("#gallery progress");
        if (bar?.hasAttribute("value")) window.seen.add(bar.value);
      }).observe(document.getElementById("gallery"), { subtree: true, childList: true, attributes: true });
    });
    await page.getByRole("button", { name: "Paint" }).click();
    await done(page).waitFor();
    const seen = await page.evaluate(() => [...window.seen]);
    assert.ok(seen.length >= 2, `progress moved: ${seen}`);
    await shot(page, "picture-made");
    const coming = page.waitForEvent("download");
    await page.getByRole("link", { name: "Download" }).click();
    const kept = readFileSync(await (await coming).path());
    assert.equal(kept.subarray(8, 12).toString(), "WEBP");
    await page.getByRole("button", { name: "Use seed" }).click();
    const seed = await page.getByLabel("Seed", { exact: true }).inputValue();
    assert.match(seed, /^\d+$/);
    await page.waitForTimeout(1000);
    await page.getByRole("button", { name: "Paint" }).click();
    await page.locator("#gallery .card").nth(1).waitFor();
    await page.locator("#gallery .card").first().locator("figure img").waitFor();
    const again = page.waitForEvent("download");
    await page.getByRole("link", { name: "Download" }).first().click();
    assert.deepEqual(readFileSync(await (await again).path()), kept, "the same seed, the same picture");
    await page.reload();
    await page.locator("#gallery .card figure img").nth(1).waitFor();
  }),

  "a price says what it is made of, a model what it needs, and a request why it waits": () => visit("/", async (page) => {
    await fill(page, "nobody paints this");
    await page.getByLabel("Model").selectOption("ordu-tiny");
    await page.locator("#needs", { hasText: "stable diffusion 1" }).waitFor();
    await page.getByText("LoRAs and words").click();
    await page.getByRole("button", { name: "Add a LoRA" }).click();
    await page.getByLabel("LoRA 1").fill("12345");
    await page.locator("#price", { hasText: /^\d.* kudos$/ }).waitFor();
    await page.getByText("What the price is made of").click();
    await page.locator("#breakdown dt", { hasText: "LoRAs: 1" }).waitFor();
    assert.deepEqual(await axe(page), []);
    await page.getByRole("button", { name: "Paint" }).click();
    // The worker of `up` fetches no LoRAs.
    await page.locator("#gallery .note", { hasText: "no LoRAs: 1 worker" }).waitFor();
    await shot(page, "explained");
    await page.getByRole("button", { name: "Cancel" }).click();
    await page.locator("#gallery .card", { hasText: "Cancelled" }).waitFor();
  }),

  "what is wrong is said beside the field": () => visit("/", async (page) => {
    await fill(page);
    await page.evaluate(() => { document.getElementById("create").noValidate = true; });
    await page.getByLabel("Width", { exact: true }).fill("65");
    await page.getByRole("button", { name: "Paint" }).click();
    const field = page.getByLabel("Width", { exact: true });
    await page.locator("#width[aria-invalid]").waitFor();
    const id = await field.getAttribute("aria-describedby");
    assert.match(await page.locator(`#${id}`).textContent(), /64/);
    assert.ok(await field.evaluate((element) => element === document.activeElement), "it has the focus");
    assert.deepEqual(await axe(page), []);
  }),

  "with the keyboard alone": () => visit("/", async (page) => {
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
    await page.keyboard.press("Enter");
    const reach = async (id) => {
      for (let pressed = 0; pressed < 60; pressed += 1) {
        if (await page.evaluate(() => document.activeElement.id) === id) return;
        await page.keyboard.press("Tab");
      }
      assert.fail(`Tab does not reach ${id}`);
    };
    await reach("prompt");
    await page.keyboard.type(PROMPT);
    for (const id of ["width", "height"]) {
      await reach(id);
      await page.keyboard.press("Control+A");
      await page.keyboard.type("64");
    }
    await page.keyboard.press("Enter");
    await done(page).waitFor();
  }),

  "a text is written before one's eyes": () => visit("/text", async (page) => {
    await page.getByLabel("How it begins").fill("A red circle");
    await page.getByLabel("Tokens").fill("400");
    await page.evaluate(() => {
      window.seen = new Set();
      new MutationObserver(() => window.seen.add(document.querySelector("#texts .written")?.textContent.length))
        .observe(document.getElementById("texts"), { subtree: true, childList: true, characterData: true });
    });
    await page.getByRole("button", { name: "Write" }).click();
    await page.getByText("Done", { exact: true }).waitFor();
    const text = await page.locator("#texts .written").textContent();
    assert.ok(text.length > 20, text);
    await page.getByRole("button", { name: "Go on from here" }).click();
    assert.ok((await page.getByLabel("How it begins").inputValue()).endsWith(text));
    assert.deepEqual(await axe(page), []);
    await shot(page, "text-written");
  }),

  "a text and work on a picture say why they wait, and typing asks for no price": async () => {
    await visit("/text", async (page) => {
      let prices = 0;
      page.on("request", (asked) => { if (asked.postData()?.includes('"dry_run":true')) prices += 1; });
      const prompt = page.getByLabel("How it begins");
      await prompt.fill("Nobody");
      await page.locator("#price", { hasText: /^\d.* kudos$/ }).waitFor();
      for (const more of [" has", " so much", " to say"]) {
        await prompt.pressSequentially(more);
        // Longer than the page waits before it asks.
        await page.waitForTimeout(900);
      }
      assert.equal(prices, 1, "what is typed changes no price");
      await page.getByLabel("Context").fill("1000000");
      await page.getByRole("button", { name: "Write" }).click();
      await page.locator("#texts .note", { hasText: "max_context_length 1000000" }).waitFor();
      assert.deepEqual(await axe(page), []);
      await shot(page, "text-explained");
      await page.getByRole("button", { name: "Cancel" }).click();
      await page.getByText("Cancelled", { exact: true }).waitFor();
      assert.ok(await page.locator("#texts .note").isHidden(), "nothing is waited for any more");
    });
    await visit("/alchemy", async (page) => {
      await page.getByLabel("Picture", { exact: true }).setInputFiles({
        name: "dot.png", mimeType: "image/png",
        buffer: Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg==", "base64"),
      });
      await page.getByLabel("palette").check();
      await page.getByRole("button", { name: "Begin" }).click();
      // The built-in horde of `ordu up` has no alchemist.
      await page.locator("#works .note", { hasText: "No worker of its kind is online" }).waitFor();
      assert.deepEqual(await axe(page), []);
    });
  },

  "a picture is worked on": async () => {
    // The built-in horde of `ordu up` has no alchemist: one comes.
    const alchemist = spawn(ordu, ["work", "--alchemist", "--horde", horde.url, "--api-key", horde.admin], { stdio: "ignore" });
    try {
      await visit("/alchemy", async (page) => {
        const square = await page.evaluate(() => {
          const canvas = document.createElement("canvas");
          [canvas.width, canvas.height] = [64, 64];
          const brush = canvas.getContext("2d");
          brush.fillStyle = "#e62828";
          brush.fillRect(0, 0, 64, 64);
          return canvas.toDataURL("image/png").split(",")[1];
        });
        await page.getByLabel("Picture", { exact: true }).setInputFiles({ name: "red.png", mimeType: "image/png", buffer: Buffer.from(square, "base64") });
        await page.getByLabel("palette").check();
        await page.getByRole("button", { name: "Begin" }).click();
        await page.getByText("Done", { exact: true }).waitFor();
        assert.match(await page.locator("#works .card").textContent(), /#?e62828|#?e[0-9a-f]2/i);
        assert.deepEqual(await axe(page), []);
        await shot(page, "alchemy-done");
      });
    } finally {
      alchemist.kill("SIGTERM");
    }
  },

  "an owner looks after workers, shared keys and styles": () => visit("/account", async (page) => {
    await page.locator("#own-key").fill(horde.admin);
    await page.getByRole("button", { name: "Open" }).click();
    const workers = page.getByRole("region", { name: "Workers", exact: true });
    await workers.getByRole("button", { name: "Begin maintenance" }).first().click();
    await workers.getByRole("button", { name: "End maintenance" }).first().click();
    await workers.getByRole("button", { name: "End maintenance" }).waitFor({ state: "detached" });
    await page.getByText("New shared key").click();
    const keys = page.getByRole("region", { name: "Shared keys", exact: true });
    await keys.getByLabel("Name").fill("for friends");
    await keys.getByRole("button", { name: "Make" }).click();
    await keys.getByRole("article", { name: "for friends" }).waitFor();
    await page.getByText("New style for pictures").click();
    const styles = page.getByRole("region", { name: "Styles", exact: true });
    await styles.getByLabel("Name").fill("plain");
    await styles.getByLabel("Model").fill("ordu-tiny");
    await styles.getByRole("button", { name: "Make" }).click();
    await styles.getByRole("cell", { name: "plain" }).waitFor();
    assert.deepEqual(await axe(page), []);
    await shot(page, "account-open");
    const away = keys.getByRole("button", { name: "Remove" });
    await away.click();
    await away.click();
    await keys.getByRole("article", { name: "for friends" }).waitFor({ state: "detached" });
  }),

  "kudos are given": () => visit("/register", async (page) => {
    await register(page, "poor");
    const alias = await page.locator("strong").first().textContent();
    await page.goto("/transfer");
    await page.getByLabel("Your key").fill(horde.admin);
    await page.getByLabel("For whom").fill(alias);
    await page.getByLabel("How many").fill("1");
    await page.getByRole("button", { name: "Give" }).click();
    const told = page.locator("main [role=status], main [role=alert]").first();
    await told.waitFor();
    assert.equal(await told.getAttribute("role"), "status", await told.textContent());
    await shot(page, "kudos-given");
  }),

  "order is kept": () => visit("/register", async (page) => {
    await register(page, "suspect");
    const alias = await page.locator("strong").first().textContent();
    await page.goto("/moderate");
    await page.locator("#apikey").fill(horde.admin);
    await page.locator("#apikey").press("Tab");
    const users = page.getByRole("region", { name: "Users", exact: true });
    await users.getByLabel("Number, or name#number").fill(alias);
    await users.getByRole("button", { name: "Look up" }).click();
    await users.getByLabel("Trusted").check();
    await users.getByRole("button", { name: "Save roles" }).click();
    await page.locator("#said", { hasText: "Save roles: done" }).waitFor();
    const filters = page.getByRole("region", { name: "Filters", exact: true });
    await filters.getByLabel("Expression").fill("zebra");
    await filters.getByRole("button", { name: "Add" }).click();
    await filters.getByRole("cell", { name: "zebra" }).waitFor();
    await filters.getByLabel("A prompt").fill("a zebra");
    await filters.getByRole("button", { name: "Try" }).click();
    await page.locator("#said", { hasText: "zebra" }).waitFor();
    const addresses = page.getByRole("region", { name: "Addresses", exact: true });
    await addresses.getByLabel("Address or block").fill("203.0.113.7");
    await addresses.getByRole("button", { name: "Shut out" }).click();
    await addresses.getByRole("button", { name: "Let in" }).click();
    await addresses.getByText("0 shut out").waitFor();
    const modes = page.getByRole("region", { name: "The whole horde", exact: true });
    await modes.getByRole("button", { name: "New workers by invitation only: off" }).click();
    await modes.getByRole("button", { name: "New workers by invitation only: on" }).click();
    await modes.getByRole("button", { name: "New workers by invitation only: off" }).waitFor();
    const audit = page.getByRole("region", { name: "Audit log", exact: true });
    await audit.getByRole("button", { name: "Show" }).click();
    await audit.getByRole("cell", { name: "user.update" }).first().waitFor();
    assert.deepEqual(await axe(page), []);
    await shot(page, "order-kept");
  }),

  "a restart of the server under an open page heals by itself": () => visit("/", async (page) => {
    await page.getByRole("button", { name: "Paint" }).waitFor();
    const { host } = new URL(horde.url);
    await fill(page);
    await page.getByLabel("Pictures", { exact: true }).fill("12");
    await page.getByRole("button", { name: "Paint" }).click();
    await page.locator("#gallery .card").waitFor();
    // In good order: a job that its worker takes to the grave would be missed after minutes only.
    await horde.stop("SIGTERM");
    await page.getByText("Connection lost, trying again").waitFor();
    await horde.start(host);
    await page.locator("#gallery figure img").nth(11).waitFor();
    await page.getByText("Done", { exact: true }).waitFor();
  }),
});

const only = process.env.ORDU_WEB_ONLY;
let failed = 0;
for (const [name, trip] of Object.entries(trips)) {
  if (only && !name.includes(only)) continue;
  try {
    await trip();
    console.log(`ok ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED ${name}\n${error.stack}`);
  }
}
await browser.close();
await horde.stop();
process.exit(failed ? 1 : 0);
