// Draws measured latency as SVG: over time, and its distribution. Plain text out, no library.

const COLOURS = { page: "#0b62d6", "hls.js": "#d9480f", "video.js": "#2b8a3e", shaka: "#862e9c", native: "#5c6670" };
const NAMES = { page: "player page", shaka: "Shaka", native: "Chromium native" };
const FONT = 'font-family="system-ui, DejaVu Sans, sans-serif"';

const name = (player) => NAMES[player] ?? player;
const escape = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const text = (x, y, content, more = "") => {
  // An attribute may be given only once.
  const size = more.includes("font-size") ? "" : ' font-size="13"';
  const fill = more.includes("fill=") ? "" : ' fill="#333"';
  return `<text x="${x}" y="${y}"${size}${fill} ${more}>${escape(content)}</text>`;
};

function document_(width, height, title, notes, body) {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" ${FONT}>
<rect width="${width}" height="${height}" fill="#fff"/>
<text x="20" y="30" font-size="18" font-weight="600" fill="#111">${escape(title)}</text>
${notes.map((note, i) => text(20, height - 12 - 18 * (notes.length - 1 - i), note, 'font-size="12" fill="#666"')).join("\n")}
${body.join("\n")}
</svg>
`;
}

/** A scale that ends a little above the highest value, in steps that people count in. */
function ceiling(highest) {
  const step = [0.1, 0.25, 0.5, 1, 2].find((candidate) => highest / candidate <= 6) ?? 5;
  return [Math.ceil((highest * 1.05) / step) * step, step];
}

/**
 * Latency over time, a panel a mode, a line a player: the first page load of each. `results` is [{ mode, player, loads }], where each
 * load has `series`: [[seconds since the first picture, latency in s]].
 */
export function overTime(results, modes, notes) {
  const [width, panel, left, right] = [960, 230, 70, 790];
  const height = 60 + modes.length * (panel + 50) + 18 * notes.length + 10;
  const body = [];
  modes.forEach((mode, row) => {
    const rows = results.filter((result) => result.mode === mode.id && result.loads[0].series.length);
    const [top, bottom] = [80 + row * (panel + 50), 80 + row * (panel + 50) + panel - 20];
    const all = rows.flatMap((result) => result.loads[0].series);
    const end = Math.max(1, ...all.map(([at]) => at));
    const [most, step] = ceiling(Math.max(0.4, ...all.map(([, value]) => value).filter((value) => value < 5)));
    const x = (at) => left + (at / end) * (right - left);
    const y = (value) => bottom - (Math.min(value, most) / most) * (bottom - top);
    body.push(text(20, top - 14, mode.title, 'font-weight="600"'));
    for (let value = 0; value <= most + 1e-9; value += step) {
      body.push(`<line x1="${left}" x2="${right}" y1="${y(value).toFixed(1)}" y2="${y(value).toFixed(1)}" stroke="#ddd"/>`);
      body.push(text(left - 8, y(value) + 4, `${Number(value.toFixed(2))} s`, 'text-anchor="end"'));
    }
    const every = end > 40 ? 10 : 5;
    for (let at = 0; at <= end; at += every) body.push(text(x(at), bottom + 17, `${at} s`, 'text-anchor="middle" font-size="12"'));
    rows.forEach((result, i) => {
      let path = "";
      let last = -Infinity;
      for (const [at, value] of result.loads[0].series) {
        path += `${at - last > 0.3 ? "M" : "L"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
        last = at;
      }
      const colour = COLOURS[result.player] ?? "#000";
      body.push(`<path d="${path}" fill="none" stroke="${colour}" stroke-width="1.8"/>`);
      body.push(`<line x1="${right + 14}" x2="${right + 34}" y1="${top + 12 + 22 * i}" y2="${top + 12 + 22 * i}" stroke="${colour}" stroke-width="3"/>`);
      body.push(text(right + 40, top + 16 + 22 * i, name(result.player)));
    });
  });
  return document_(width, height, "Glass-to-glass latency over time, from the first picture", notes, body);
}

/** Its distribution: a bar from the 5th to the 95th hundredth, a tick at the median, a dot at the highest; all loads together. */
export function distribution(results, modes, notes) {
  const [width, left, right] = [960, 190, 900];
  const line = 30;
  const rows = modes.map((mode) => results.filter((result) => result.mode === mode.id && result.latencies.length));
  const all = rows.flat();
  const [most, step] = ceiling(Math.max(0.4, ...all.map((result) => Math.min(5, result.latencies.at(-1)))));
  const x = (value) => left + (Math.min(value, most) / most) * (right - left);
  const body = [];
  let top = 60;
  modes.forEach((mode, m) => {
    body.push(text(20, top + 16, mode.title, 'font-weight="600"'));
    const [first, last] = [top + 26, top + 26 + rows[m].length * line];
    for (let value = 0; value <= most + 1e-9; value += step) {
      body.push(`<line x1="${x(value).toFixed(1)}" x2="${x(value).toFixed(1)}" y1="${first}" y2="${last}" stroke="#ddd"/>`);
      body.push(text(x(value), last + 16, `${Number(value.toFixed(2))} s`, 'text-anchor="middle" font-size="12"'));
    }
    rows[m].forEach((result, i) => {
      const y = first + i * line + line / 2;
      const at = (q) => result.latencies[Math.min(result.latencies.length - 1, Math.floor(q * result.latencies.length))];
      const colour = COLOURS[result.player] ?? "#000";
      body.push(text(left - 12, y + 5, name(result.player), 'text-anchor="end"'));
      body.push(`<rect x="${x(at(0.05)).toFixed(1)}" y="${y - 8}" width="${Math.max(3, x(at(0.95)) - x(at(0.05))).toFixed(1)}" height="16" rx="2" fill="${colour}" opacity="0.35"/>`);
      body.push(`<rect x="${(x(at(0.5)) - 2).toFixed(1)}" y="${y - 10}" width="4" height="20" fill="${colour}"/>`);
      body.push(`<circle cx="${x(at(1)).toFixed(1)}" cy="${y}" r="3" fill="${colour}"/>`);
      const label = `${at(0.5).toFixed(2)} s`;
      const beside = x(at(1)) + 10;
      body.push(beside < right - 40 ? text(beside, y + 5, label) : text(x(at(0.05)) - 8, y + 5, label, 'text-anchor="end"'));
    });
    top = last + 40;
  });
  return document_(width, top + 10 + 18 * notes.length, "Glass-to-glass latency: median, 5–95 %, highest", notes, body);
}
