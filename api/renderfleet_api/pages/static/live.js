// Listens to the tenant's events and tells what is on the page to renew itself, at most every 400 ms. The stream begins
// where the page was rendered, so nothing is missed between the two. The server renders; this only says when.
"use strict";
(() => {
  const pauseMillis = 400;
  let timer = null;
  let again = new Set();
  let all = false;

  const renew = () => {
    const [ids, everything] = [again, all];
    [timer, again, all] = [null, new Set(), false];
    for (const part of document.querySelectorAll("[data-live]")) {
      if (everything || !part.dataset.job || ids.has(part.dataset.job)) htmx.trigger(part, "news");
    }
  };

  const heard = (message) => {
    if (message.type === "reset") all = true;
    else again.add(JSON.parse(message.data).id);
    timer ??= setTimeout(renew, pauseMillis);
  };

  document.addEventListener("DOMContentLoaded", () => {
    if (!document.querySelector("[data-live]")) return;
    const stream = new EventSource(`/ui/events?after=${document.body.dataset.newsAfter}`);
    for (const type of ["changed", "end", "deleted", "reset"]) stream.addEventListener(type, heard);
    addEventListener("pagehide", () => stream.close());
  });
})();
