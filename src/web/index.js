// Keeps the list of live streams fresh; without it the list is as old as the page.
"use strict";

(function () {
  const REFRESH_MS = 2000;
  const body = document.getElementById("streams");
  document.getElementById("ingest").textContent = `rtmp://${location.hostname}/APP/NAME`;
  document.getElementById("watch").textContent = new URL("APP/NAME/", location.href).href;

  function cell(label, content) {
    const td = document.createElement("td");
    td.dataset.label = label;
    td.append(content);
    return td;
  }

  function link(href, text) {
    const a = document.createElement("a");
    a.href = href;
    a.textContent = text;
    return a;
  }

  function row(stream) {
    const tr = document.createElement("tr");
    const since = new Date(stream.started);
    tr.append(
      cell("Stream", link(`${stream.name}/`, stream.name)),
      cell("Picture", stream.resolution.replace("x", "×") || "–"),
      cell("Codecs", stream.codecs || "–"),
      cell("Viewers", String(stream.viewers)),
      cell("Since", Number.isNaN(since.getTime()) ? "–" : since.toLocaleTimeString()),
      cell("Playlist", link(`${stream.name}/playlist.m3u8`, "playlist.m3u8")),
    );
    return tr;
  }

  function none() {
    const tr = document.createElement("tr");
    const td = document.createElement("td");
    td.colSpan = 6;
    td.textContent = "Nothing is live.";
    tr.append(td);
    return tr;
  }

  async function refresh() {
    try {
      const { streams } = await (await fetch("api/streams", { cache: "no-store" })).json();
      // Rows are replaced only when something changed, so that a focused link keeps its focus.
      const state = JSON.stringify(streams.map((stream) => ({ ...stream, ring_bytes: 0 })));
      if (state !== body.dataset.state) {
        const focused = document.activeElement && document.activeElement.getAttribute("href");
        body.dataset.state = state;
        body.replaceChildren(...(streams.length ? streams.map(row) : [none()]));
        if (focused) body.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
      }
    } catch {
      // The server is away; the list stays as it was.
    }
    setTimeout(refresh, document.hidden ? 5 * REFRESH_MS : REFRESH_MS);
  }
  refresh();
})();
