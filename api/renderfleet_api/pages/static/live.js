// Listens to the tenant's events and tells what is on the page to renew itself, at most every 400 ms. The stream begins
// where the page was rendered, so nothing is missed between the two. The server renders; this only says when.
// While the server does not answer, the page says so, since what it shows may be old, and goes on trying.
"use strict";
(() => {
  const pauseMillis = 400;
  const againMillis = 3000;
  let timer = null;
  let again = new Set();
  let all = false;
  let last = null;
  const lost = new Set();

  const tell = () => {
    document.getElementById("connection").textContent =
      lost.size ? "The server does not answer; what you see may be old. Trying again." : "";
  };
  const mark = (what, isLost) => {
    if (isLost) lost.add(what);
    else lost.delete(what);
    tell();
  };

  const renew = () => {
    const [ids, everything] = [again, all];
    [timer, again, all] = [null, new Set(), false];
    for (const part of document.querySelectorAll("[data-live]")) {
      if (everything || !part.dataset.job || ids.has(part.dataset.job)) htmx.trigger(part, "news");
    }
  };

  const heard = (message) => {
    last = message.lastEventId || last;
    if (message.type === "reset") all = true;
    else again.add(JSON.parse(message.data).id);
    timer ??= setTimeout(renew, pauseMillis);
  };

  const listen = () => {
    const stream = new EventSource(`/ui/events?after=${last ?? document.body.dataset.newsAfter}`);
    for (const type of ["changed", "end", "deleted", "reset"]) stream.addEventListener(type, heard);
    stream.onopen = () => mark("stream", false);
    stream.onerror = () => {
      mark("stream", true);
      // A browser takes a broken stream up again by itself, but not one that was answered with an error.
      if (stream.readyState === EventSource.CLOSED) setTimeout(listen, againMillis);
    };
    addEventListener("pagehide", () => stream.close());
  };

  const failed = () => {
    mark("request", true);
    all = true;
    timer ??= setTimeout(renew, againMillis);
  };

  document.addEventListener("htmx:error", failed);
  document.addEventListener("htmx:after:request", (event) => {
    // What is refused for good, a job that is gone say, is not asked for again.
    if (event.detail.ctx.response.status >= 500) failed();
    else mark("request", false);
  });
  document.addEventListener("DOMContentLoaded", () => {
    if (document.querySelector("[data-live]")) listen();
  });
})();
