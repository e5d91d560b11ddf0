// The status page: asks the API every two seconds and keeps one card for each stream.
//
// Cards are changed where they stand, never replaced, so that focus and opened details stay. All text from outside goes through
// textContent.
"use strict";

(function () {
  const REFRESH_MS = 2000;
  const PAGES = 4;
  const byId = (id) => document.getElementById(id);
  const cards = new Map();
  let last = null;

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  // Writing only what has changed keeps selections alive and screen readers quiet.
  function write(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  function show(element, visible) {
    if (element.hidden === visible) element.hidden = !visible;
  }

  function rate(bits) {
    if (bits >= 1e9) return `${(bits / 1e9).toFixed(2)} Gb/s`;
    if (bits >= 1e6) return `${(bits / 1e6).toFixed(2)} Mb/s`;
    return `${Math.round(bits / 1e3)} kb/s`;
  }

  function bytes(count) {
    if (count >= 1e9) return `${(count / 1e9).toFixed(2)} GB`;
    if (count >= 1e6) return `${(count / 1e6).toFixed(1)} MB`;
    return `${Math.round(count / 1e3)} kB`;
  }

  function millis(value) {
    return value >= 10 ? `${Math.round(value)} ms` : `${value.toFixed(1)} ms`;
  }

  function span(seconds) {
    const units = [[86400, "d"], [3600, "h"], [60, "min"]];
    for (const [size, unit] of units) if (seconds >= 2 * size) return `${Math.floor(seconds / size)} ${unit}`;
    return `${Math.max(0, Math.floor(seconds))} s`;
  }

  const since = (time) => span((Date.now() - new Date(time).getTime()) / 1000);
  const clock = (time) => new Date(time).toLocaleTimeString();

  // One figure: its name, its value now, and a line over the last minute.
  class Spark {
    static WIDTH = 240;
    static HEIGHT = 40;

    constructor(name, format) {
      const svg = (tag, attributes) => {
        const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
        for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
        return element;
      };
      this.name = name;
      this.format = format;
      this.value = make("dd");
      this.line = svg("path", { class: "line" });
      this.fill = svg("path", { class: "fill" });
      this.picture = svg("svg", { viewBox: `0 0 ${Spark.WIDTH} ${Spark.HEIGHT}`, preserveAspectRatio: "none", role: "img" });
      this.picture.append(this.fill, this.line);
      this.element = make("div", { class: "spark" }, make("dt", {}, name), this.value, this.picture);
    }

    // `least` is what the scale reaches at least, so that noise does not look like trouble.
    update(now, series, least) {
      write(this.value, now === null ? "–" : this.format(now));
      const known = series.filter((value) => value !== null);
      const top = Math.max(least, ...known) * 1.05;
      const x = (i) => ((i + 60 - series.length) / 59) * Spark.WIDTH;
      const y = (value) => Spark.HEIGHT - 1.5 - (value / top) * (Spark.HEIGHT - 3);
      let [line, fill, start] = ["", "", null];
      series.forEach((value, i) => {
        if (value !== null) {
          line += `${start === null ? "M" : "L"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
          if (start === null) fill += `M${x(i).toFixed(1)} ${Spark.HEIGHT}`;
          fill += `L${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
          start ??= i;
        }
        if (start !== null && (value === null || i === series.length - 1)) {
          fill += `L${x(value === null ? i - 1 : i).toFixed(1)} ${Spark.HEIGHT}Z`;
          start = null;
        }
      });
      this.line.setAttribute("d", line);
      this.fill.setAttribute("d", fill);
      const range = known.length ? `from ${this.format(Math.min(...known))} to ${this.format(Math.max(...known))}` : "nothing measured";
      this.picture.setAttribute("aria-label", `${this.name} over the last minute: ${range}`);
    }
  }

  const STATES = { starting: "Starting", live: "Live", waiting: "Waiting for its encoder", ended: "Over" };
  const REASONS = {
    goodbye: "said goodbye", lost: "connection lost", silent: "fell silent", replaced: "another publisher took over",
    refused: "refused", kicked: "closed by an operator", ended: "ended by an operator", shutdown: "server stopped",
  };

  class Card {
    constructor(name) {
      this.name = name;
      this.link = make("a", {}, name);
      this.title = make("h2", { id: `stream-${cards.size}-${Date.now()}`, tabindex: "-1" }, this.link);
      this.state = make("span", { class: "badge" });
      this.facts = make("p", { class: "stream-facts" });
      this.sparks = {
        bitrate: new Spark("Bit rate", rate),
        fps: new Spark("Pictures/s", (value) => String(Math.round(value * 10) / 10)),
        gop: new Spark("Key frames", (value) => `${value.toFixed(value < 10 ? 2 : 1)} s`),
        upload: new Spark("Upload delay", millis),
        delivery: new Spark("Server delay", millis),
      };
      this.warnings = make("ul", { class: "warnings" });
      this.runs = make("tbody");
      this.more = make("p", { class: "stream-facts" });
      this.end = make("button", { type: "button" }, "End the stream…");
      this.end.addEventListener("click", () => this.ask());
      this.viewers = make("a", { href: `api/v1/connections?stream=${encodeURIComponent(name)}` }, "Its connections");
      this.operator = make("p", { class: "operator" }, this.viewers, this.end);
      const head = make("tr", {}, ...["From", "To", "How it ended", "Encoder"].map((text) => make("th", { scope: "col" }, text)));
      this.details = make("details", {}, make("summary", {}, "Runs and memory"), this.more,
        make("div", { class: "scroll" }, make("table", { class: "runs" }, make("thead", {}, head), this.runs)), this.operator);
      this.element = make("article", { class: "card", "aria-labelledby": this.title.id },
        make("div", { class: "card-head" }, this.title, this.state), this.facts,
        make("dl", { class: "sparks" }, ...Object.values(this.sparks).map((spark) => spark.element)), this.warnings, this.details);
    }

    update(stream, server) {
      const { video, audio, history } = stream;
      this.element.dataset.state = stream.state;
      this.link.href = server.own_port ? `//${location.hostname}:${server.http_port}${stream.player}` : stream.player.slice(1);
      write(this.state, STATES[stream.state] ?? stream.state);
      const seen = stream.viewers === 1 ? "1 viewer" : `${stream.viewers} viewers`;
      const facts = [seen];
      if (video) facts.push(`${video.width}×${video.height}`, video.codec);
      if (audio) facts.push(audio.codec, `${audio.sample_rate / 1000} kHz`);
      if (stream.publisher) facts.push(`since ${since(stream.publisher.since)}`);
      write(this.facts, facts.join(" · "));
      const publishing = stream.state === "live" || stream.state === "starting";
      const fps = video && publishing ? video.frames_per_second : null;
      this.sparks.bitrate.update(publishing ? stream.bits_per_second : null, history.bits_per_second, 100_000);
      this.sparks.fps.update(fps, history.frames_per_second, 10);
      this.sparks.gop.update(stream.gop.seconds, history.gop_seconds, stream.gop.wanted_seconds * 1.5);
      this.sparks.upload.update(publishing ? stream.upload_delay_ms : null, history.upload_delay_ms, 100);
      this.sparks.delivery.update(stream.delivery_ms, history.delivery_ms, 5);
      this.warn(stream.warnings);
      const kept = stream.ring.sessions.at(-1);
      write(this.more, [
        kept ? `${kept.segments} segments of ${kept.seconds.toFixed(0)} s in memory (${bytes(stream.ring.bytes)})` : "Nothing in memory yet",
        `target duration ${kept ? `${kept.target_duration} s` : "not known yet"}`,
        video ? `${video.sampling ?? "unknown sampling"}` : "no picture",
      ].join(" · "));
      this.list(stream.runs);
      show(this.operator, server.operator);
      show(this.end, stream.state !== "ended");
    }

    warn(warnings) {
      const state = JSON.stringify(warnings);
      if (state === this.warned) return;
      this.warned = state;
      this.warnings.replaceChildren(...warnings.map((warning) => make("li", { class: warning.severity },
        make("p", {}, make("strong", {}, { notice: "Note", warning: "Warning", error: "Error" }[warning.severity] ?? "Note"), ` ${warning.text}`),
        make("p", { class: "obs" }, make("b", {}, "OBS"), ` ${warning.obs}`))));
    }

    list(runs) {
      const state = JSON.stringify(runs);
      if (state === this.listed) return;
      this.listed = state;
      this.runs.replaceChildren(...runs.map((run) => make("tr", {},
        make("td", { "data-label": "From" }, clock(run.started)), make("td", { "data-label": "To" }, run.ended ? clock(run.ended) : "now"),
        make("td", { "data-label": "How it ended" }, run.reason ? REASONS[run.reason] ?? run.reason : "–"), make("td", { "data-label": "Encoder" }, run.encoder ?? "–"))));
    }

    // Ending a stream cannot be undone, so it takes two clicks.
    async ask() {
      if (!this.sure) {
        this.sure = setTimeout(() => this.calm(), 5000);
        write(this.end, "Really end it? For a minute nobody can publish under this name.");
        return;
      }
      clearTimeout(this.sure);
      this.end.disabled = true;
      const path = `api/v1/streams/${this.name.split("/").map(encodeURIComponent).join("/")}?block=60`;
      const answer = await fetch(path, { method: "DELETE" }).catch(() => null);
      this.end.disabled = false;
      this.calm();
      if (!answer || !answer.ok) write(this.end, "That did not work. Try again…");
    }

    calm() {
      this.sure = null;
      write(this.end, "End the stream…");
    }
  }

  function totals(server) {
    const now = performance.now();
    const figures = [
      ["Streams", String(server.streams)], ["Publishers", String(server.publishers)], ["Viewers", String(server.viewers)],
    ];
    const passed = last && server.started === last.server.started ? (now - last.now) / 1000 : 0;
    if (passed > 0.2) {
      const speed = (name) => (8 * (server[name] - last.server[name])) / passed;
      figures.push(["In", rate(speed("received_bytes"))], ["Out", rate(speed("sent_bytes"))]);
      if (server.cpu_seconds !== null) {
        figures.push(["Processor", `${((100 * (server.cpu_seconds - last.server.cpu_seconds)) / passed).toFixed(0)} %`]);
      }
    } else {
      figures.push(["In", "…"], ["Out", "…"], ["Processor", "…"]);
    }
    if (server.resident_bytes !== null) figures.push(["Memory", bytes(server.resident_bytes)]);
    if (server.panics > 0) figures.push(["Panics", String(server.panics)]);
    last = { server, now };
    const list = byId("totals");
    while (list.children.length > figures.length) list.lastChild.remove();
    figures.forEach(([name, value], i) => {
      const box = list.children[i] ?? list.appendChild(make("div", {}, make("dt"), make("dd")));
      write(box.children[0], name);
      write(box.children[1], value);
      box.classList.toggle("bad", name === "Panics");
    });
    write(byId("about"), `lhls ${server.version}, up for ${span(server.uptime_seconds)}`);
    write(byId("ingest"), `rtmp://${location.hostname}${server.rtmp_port === 1935 ? "" : `:${server.rtmp_port}`}/APP/NAME`);
  }

  function problems(streams) {
    const found = streams.filter((stream) => stream.warnings.some((warning) => warning.severity !== "notice"));
    const state = JSON.stringify(found.map((stream) => [stream.name, stream.warnings.map((warning) => warning.code)]));
    const list = byId("problem-list");
    show(byId("problems"), found.length > 0);
    if (state === list.dataset.state) return;
    list.dataset.state = state;
    list.replaceChildren(...found.map((stream) => {
      const { title } = cards.get(stream.name);
      const names = stream.warnings.map((warning) => warning.code.replaceAll("_", " ")).join(", ");
      return make("li", {}, make("a", { href: `#${title.id}` }, stream.name), ` ${names}`);
    }));
  }

  function update(server, streams, total) {
    totals(server);
    const list = byId("streams");
    for (const [name, card] of cards) {
      if (!streams.some((stream) => stream.name === name)) {
        card.element.remove();
        cards.delete(name);
      }
    }
    streams.forEach((stream, i) => {
      let card = cards.get(stream.name);
      if (!card) {
        card = new Card(stream.name);
        cards.set(stream.name, card);
      }
      // Moving an element takes its focus, so it is moved only if it has to be.
      if (list.children[i] !== card.element) list.insertBefore(card.element, list.children[i] ?? null);
      card.update(stream, server);
    });
    problems(streams);
    show(byId("none"), streams.length === 0);
    show(byId("more"), total > streams.length);
    write(byId("more"), `${total - streams.length} more streams are not shown here; the API has them.`);
  }

  async function ask(path) {
    const answer = await fetch(`api/v1/${path}`, { cache: "no-store" });
    if (answer.status === 401) throw new Error("The token is wrong; reload the page");
    if (!answer.ok) throw new Error(`The server says ${answer.status}`);
    return answer.json();
  }

  async function refresh() {
    const state = byId("state");
    try {
      const server = await ask("server");
      let [streams, page] = [[], await ask("streams")];
      while (streams.push(...page.streams) && page.next !== null && streams.length < PAGES * 100) {
        page = await ask(`streams?after=${encodeURIComponent(page.next)}`);
      }
      update(server, streams, page.total);
      document.body.dataset.state = server.draining ? "waiting" : "playing";
      write(state, server.draining ? "Shutting down" : "Up");
    } catch (error) {
      document.body.dataset.state = "waiting";
      write(state, error instanceof TypeError ? "Not reached" : error.message);
    }
    document.body.dataset.refreshed = String(Number(document.body.dataset.refreshed ?? 0) + 1);
    setTimeout(refresh, document.hidden ? 5 * REFRESH_MS : REFRESH_MS);
  }
  refresh();
})();
