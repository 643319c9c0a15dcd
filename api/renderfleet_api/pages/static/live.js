// Listens to the tenant's events and tells what is on the page to renew itself: at once for the first event, then at
// most every 400 ms. The server renders; this only says when.
"use strict";
(() => {
  const pauseMillis = 400;
  let timer = null;
  let again = new Set();

  const renew = () => {
    timer = null;
    const ids = again;
    again = new Set();
    for (const part of document.querySelectorAll("[data-live]")) {
      if (!part.dataset.job || ids.has(part.dataset.job)) htmx.trigger(part, "news");
    }
  };

  const heard = (message) => {
    again.add(JSON.parse(message.data).id);
    timer ??= setTimeout(renew, pauseMillis);
  };

  document.addEventListener("DOMContentLoaded", () => {
    if (!document.querySelector("[data-live]")) return;
    const stream = new EventSource("/ui/events");
    for (const type of ["changed", "end", "deleted"]) stream.addEventListener(type, heard);
    stream.addEventListener("reset", () => location.reload());
    addEventListener("pagehide", () => stream.close());
  });
})();
