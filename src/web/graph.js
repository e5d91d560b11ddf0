// A line of latency over the last minute, with stalls as red bars. Colours come from the style sheet, so light and dark just work.
"use strict";

(function (root) {
  const SPAN_MS = 60_000;
  const FONT = "12px system-ui, sans-serif";

  class Graph {
    constructor(canvas) {
      this.canvas = canvas;
      this.points = [];
      this.marks = [];
    }

    add(at, latency) {
      this.points.push([at, latency]);
      while (this.points.length && this.points[0][0] < at - SPAN_MS) this.points.shift();
    }

    /** A stall, or a jump. */
    mark(at) {
      this.marks.push(at);
    }

    clear() {
      this.points = [];
      this.marks = [];
    }

    draw(now) {
      const { canvas } = this;
      const scale = devicePixelRatio || 1;
      const [width, height] = [canvas.clientWidth, canvas.clientHeight];
      if (!width) return;
      if (canvas.width !== Math.round(width * scale)) {
        canvas.width = Math.round(width * scale);
        canvas.height = Math.round(height * scale);
      }
      const style = getComputedStyle(canvas);
      const colour = (name) => style.getPropertyValue(name).trim();
      const context = canvas.getContext("2d");
      context.setTransform(scale, 0, 0, scale, 0, 0);
      context.clearRect(0, 0, width, height);

      const [left, right, top, bottom] = [44, width - 8, 8, height - 20];
      const highest = this.points.reduce((most, [, value]) => Math.max(most, value), 0);
      const ceiling = STEPS.find((step) => highest * 1.15 <= step) ?? Math.ceil(highest / 10_000) * 10_000;
      const x = (at) => right - ((now - at) / SPAN_MS) * (right - left);
      const y = (value) => bottom - (Math.min(value, ceiling) / ceiling) * (bottom - top);

      context.font = FONT;
      context.lineWidth = 1;
      context.textBaseline = "middle";
      context.textAlign = "right";
      for (let i = 0; i <= 4; i++) {
        const value = (ceiling * i) / 4;
        const at = Math.round(y(value)) + 0.5;
        context.strokeStyle = colour("--line");
        context.beginPath();
        context.moveTo(left, at);
        context.lineTo(right, at);
        context.stroke();
        context.fillStyle = colour("--faint");
        context.fillText(`${Number((value / 1000).toFixed(3))} s`, left - 6, at);
      }
      context.textAlign = "center";
      context.textBaseline = "alphabetic";
      for (let seconds = 60; seconds >= 0; seconds -= 15) {
        const at = x(now - seconds * 1000);
        context.textAlign = seconds === 60 ? "left" : seconds ? "center" : "right";
        context.fillText(seconds ? `−${seconds} s` : "now", at, height - 5);
      }

      context.fillStyle = colour("--bad");
      this.marks = this.marks.filter((at) => at > now - SPAN_MS);
      for (const at of this.marks) context.fillRect(x(at) - 1, top, 2, bottom - top);

      context.strokeStyle = colour("--accent");
      context.lineWidth = 2;
      context.lineJoin = "round";
      context.beginPath();
      let last = -Infinity;
      for (const [at, value] of this.points) {
        // A gap in the line where there was nothing to measure.
        if (at - last > 1500) context.moveTo(x(at), y(value));
        else context.lineTo(x(at), y(value));
        last = at;
      }
      context.stroke();
    }
  }

  const STEPS = [200, 400, 600, 800, 1000, 1600, 2000, 3000, 4000, 6000, 8000, 10_000];

  root.LhlsGraph = Graph;
})(globalThis);
