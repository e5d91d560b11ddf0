// Keeps playback as near to the live edge as the way from server to screen allows, whatever the player.
//
// The only thing it looks at is how much media lies ahead of the playhead. That amount goes up and down as media arrives in lumps
// (access units, parts or segments); its lowest point over the last moments is what could be played sooner without running dry.
// More than the margin of that is latency for nothing: a little of it is played off by a faster rate, a lot is jumped over.
// Running dry widens the margin, so a bad line finds its own latency; quiet minutes narrow it again.
//
// For some seconds after the start, and after the picture has stood still, latency matters more than a smooth picture: less is jumped over,
// media that comes faster than it plays is not waited for, and a player that does not go on though it could is made to.
"use strict";

(function (root) {
  /** Seconds of media that must always be ahead: a few pictures, for the decoder and for a late packet. */
  const MARGIN = 0.08;
  const MARGIN_MAX = 1.5;
  /** More than this too much is jumped over, less is played off. */
  const JUMP = 0.6;
  /** The same for a while after a break: who has just seen the picture stand still does not mind a jump, but minds the latency. */
  const JUMP_AFTER_BREAK = 0.25;
  const AFTER_BREAK_MS = 5000;
  /** More media than this in so short a time, besides the lumps it comes in, s and ms, is a player that fetches what it has missed. */
  const CATCHING_UP = 0.1;
  const CATCHING_UP_MS = 200;
  /** The page's timers stood still for this long: so did all of it. */
  const FROZEN_MS = 500;
  /** Dry for so long with more than the margin in hand, ms and s, the browser waits for more than it needs. */
  const RESCUE_MS = 100;
  const RESCUE = 0.1;
  /** Rates that nobody hears or sees. */
  const RATE_MAX = 1.08;
  const TICK_MS = 50;

  class Pilot {
    /**
     * `video` is the media element, `lump` a function that gives the seconds of media that arrive at once (the time over which the
     * lowest point is looked for is a few of them), `options.margin` another margin to start with.
     */
    constructor(video, lump, options = {}) {
      this.video = video;
      this.lump = lump;
      this.marginMin = options.margin ?? MARGIN;
      this.margin = this.marginMin;
      this.log = options.log ?? (() => {});
      this.enabled = true;
      this.stalls = 0;
      this.jumps = 0;
      /** When the picture last stood still; a start is no different. */
      this.lastBreak = this.lastTick = performance.now();
      this.restart();
      this.onWaiting = () => this.waiting();
      this.onPlaying = () => (this.dry = false);
      this.onSeeked = () => this.restart();
      video.addEventListener("waiting", this.onWaiting);
      video.addEventListener("playing", this.onPlaying);
      video.addEventListener("seeked", this.onSeeked);
      this.timer = setInterval(() => this.tick(), TICK_MS);
    }

    destroy() {
      clearInterval(this.timer);
      this.video.removeEventListener("waiting", this.onWaiting);
      this.video.removeEventListener("playing", this.onPlaying);
      this.video.removeEventListener("seeked", this.onSeeked);
      this.video.playbackRate = 1;
    }

    /** Seconds of media ahead of the playhead, without a gap; 0 if it stands in a gap. */
    ahead() {
      const { buffered, currentTime } = this.video;
      for (let i = 0; i < buffered.length; i++) {
        if (buffered.start(i) <= currentTime + 0.1 && currentTime < buffered.end(i)) return buffered.end(i) - currentTime;
      }
      return 0;
    }

    /** Forgets what was seen: after a seek the past says nothing. */
    restart() {
      this.samples = [];
      this.since = performance.now();
    }

    waiting() {
      const { video } = this;
      if (video.paused || video.seeking || video.ended || !this.enabled) return;
      // Before the first picture and right after a jump it is a start, not a stall.
      if (!this.started || this.dry) return;
      this.dry = true;
      this.stalls++;
      this.margin = Math.min(this.margin * 1.5 + 0.02, MARGIN_MAX);
      this.lastStall = this.lastBreak = performance.now();
      this.restart();
      this.log(`ran dry, margin now ${this.margin.toFixed(2)} s`);
    }

    tick() {
      const { video } = this;
      const now = performance.now();
      if (now - this.lastTick > FROZEN_MS) {
        this.lastBreak = now;
        this.restart();
      }
      this.lastTick = now;
      if (video.paused || video.seeking || !this.enabled) return;
      const ahead = this.ahead();
      if (video.readyState < 3) {
        this.rescue(now, ahead);
        return;
      }
      if (!this.started) this.lastBreak = now;
      this.started = true;
      if (now - this.lastBreak < AFTER_BREAK_MS && this.catchesUp(now, ahead)) this.restart();
      const window = Math.max(1000, 2500 * this.lump());
      this.samples.push([now, ahead]);
      while (this.samples.length && this.samples[0][0] < now - window) this.samples.shift();
      let [low, high] = [Infinity, 0];
      for (const [, value] of this.samples) {
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
      this.low = low;
      const settled = now - this.since >= Math.max(400, 1100 * this.lump());
      const excess = low - this.margin;
      if (this.margin > this.marginMin && now - (this.lastStall ?? 0) > 20_000) {
        this.margin = Math.max(this.marginMin, this.margin - 0.0002);
      }
      if (!settled) return;
      if (excess > (now - this.lastBreak < AFTER_BREAK_MS ? JUMP_AFTER_BREAK : JUMP)) {
        // To where the playhead would be had nothing happened: what is ahead now, less what has to be.
        this.jump(video.currentTime + excess);
        return;
      }
      const rate = excess > 0.02 ? Math.min(RATE_MAX, 1 + Math.max(0.01, 0.35 * excess)) : excess < -0.03 ? 0.97 : 1;
      if (Math.abs(rate - video.playbackRate) > 0.004) {
        video.playbackRate = rate;
        // What was seen so far shifts with the rate; only what comes from now on is compared with the margin.
      }
      // The window remembers a lower past than now is: follow the rate, so that the excess shrinks while it is played off.
      if (video.playbackRate !== 1) {
        const played = (video.playbackRate - 1) * (TICK_MS / 1000);
        for (const sample of this.samples) sample[1] -= played;
      }
    }

    /** Whether more has come in the last moments than the line brings of itself: the low points of such a time say nothing about the line. */
    catchesUp(now, ahead) {
      const before = this.samples.find(([at]) => at > now - CATCHING_UP_MS);
      return before !== undefined && ahead - before[1] > 2 * this.lump() + CATCHING_UP;
    }

    /**
     * Each time it has run dry Chromium wants more sound in hand before it goes on: 0.4 s, 0.8 s, and so on up to three seconds. It forgets that
     * at a seek.
     */
    rescue(now, ahead) {
      if (!this.dry || now - this.lastStall < RESCUE_MS || ahead < this.margin + RESCUE) return;
      this.jump(this.video.currentTime + ahead - this.margin);
    }

    jump(to) {
      this.jumps++;
      this.log(`jumps ${(to - this.video.currentTime).toFixed(2)} s ahead`);
      this.video.playbackRate = 1;
      this.video.currentTime = to;
      this.restart();
    }
  }

  root.LhlsPilot = Pilot;
})(globalThis);
