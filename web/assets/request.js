// Follows one request by the public API and reloads the page when a picture is there.
"use strict";
const section = document.getElementById("request");
const shown = document.querySelectorAll(".gallery img").length;
const put = (id, value) => { document.getElementById(id).textContent = value; };

async function follow() {
  try {
    const answer = await fetch(`/api/v2/generate/check/${section.dataset.id}`);
    if (answer.status === 404) { put("state", "This request has expired"); return; }
    if (answer.ok) {
      const now = await answer.json();
      document.getElementById("bar").value = now.finished;
      put("place", now.queue_position);
      put("eta", now.wait_time);
      put("processing", now.processing);
      put("finished", now.finished);
      put("state", now.processing > 0 ? "Painting" : `Waiting, place ${now.queue_position}`);
      if (now.done || now.finished > shown) { location.reload(); return; }
    }
  } catch {
    // The server may be restarting: the next round tells.
    put("state", "Connection lost, trying again");
  }
  setTimeout(follow, 1000);
}
follow();
