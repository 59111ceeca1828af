// What a request would cost, what the price is made of, and what might go less well than hoped.

import { call } from "./api.js";
import { make } from "./form.js";

const WORDS = {
  drawing: "A plain picture", tax: "Tax", size: "Size", steps: "Steps", sampler_name: "Sampler", cfg_scale: "Guidance",
  source_image: "Source", control_type: "Steered by", hires_fix: "Two passes", post_processing: "Afterwards", loras: "LoRAs",
  tis: "Textual inversions", slow_workers: "Fast workers only", worker_blacklist: "Choice of workers", models: "Model", n: "Number",
  forms: "Form", max_length: "Text", max_context_length: "Context", rounding: "Rounding", other: "Other",
};

const kudos = (amount) => Number(amount).toLocaleString(undefined, { maximumFractionDigits: 2 });

/** Shows the answer to a dry run beside the button, and below it what it is made of. */
function showPrice({ kudos: total, breakdown = [], warnings = [] }) {
  document.getElementById("price").textContent = `${kudos(total)} kudos`;
  const place = document.getElementById("breakdown");
  place.hidden = breakdown.length === 0;
  place.querySelector("dl").replaceChildren(...breakdown.map(({ name, detail, kudos: amount }) => make("div", {},
    make("dt", {}, [WORDS[name] ?? name, detail].filter(Boolean).join(": ")), make("dd", {}, kudos(amount)))));
  document.getElementById("advice")?.replaceChildren(...warnings.map(({ message }) => make("li", {}, message)));
}

/** Says why there is no price. */
export function noPrice(reason) {
  document.getElementById("price").textContent = reason;
  document.getElementById("breakdown").hidden = true;
  document.getElementById("advice")?.replaceChildren();
}

/**
 * Asks `path` what requests cost and shows it, for the last one that was asked about. One that is as the
 * last one was is not asked about again: who types would use up what may be asked in a minute.
 */
export function pricing(path) {
  let last = null;
  return async (body) => {
    const asked = JSON.stringify({ ...body, dry_run: true });
    if (asked === last) return;
    last = asked;
    try {
      const answer = await call("POST", path, { ...body, dry_run: true });
      if (asked === last) showPrice(answer);
    } catch (error) {
      if (asked !== last) return;
      last = null;
      noPrice(error.message);
    }
  };
}
