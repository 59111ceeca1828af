// Why nobody takes a request, said on its card.

import { get } from "./api.js";
import { make } from "./form.js";

/** A request that waits for longer is asked about, as often. */
const IMPATIENT = 20_000;

/** A note for the card of a request, which asks `path` what keeps workers away while it waits. */
export function reasons(path) {
  const note = make("p", { class: "note", hidden: true });
  let waits = true;
  const ask = async () => {
    try {
      const { explanation } = await get(`${path}?explain=true`);
      if (!explanation || !waits) return;
      note.textContent = explanation.message;
      note.hidden = false;
    } catch { /* another time */ }
  };
  const asking = setInterval(() => { if (waits) ask(); }, IMPATIENT);
  return {
    note,
    /** It may be that no worker that is here can do it. */
    doubt() { if (waits && note.hidden) ask(); },
    /** A worker has it, or none any more. */
    waits(still) {
      waits = still;
      if (!still) note.hidden = true;
    },
    /** Nothing will be waited for any more. */
    end() {
      this.waits(false);
      clearInterval(asking);
    },
  };
}
