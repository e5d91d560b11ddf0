//! Access units in, pieces of segments out: when a stream goes live, what rides in a piece, and when to cut.
//!
//! - **Going live.** Access units are held back until there is a key frame and some audio, or until the other track has been waited
//!   for long enough. A track is listed only once it has sent a frame, whatever the metadata promised.
//! - **Pieces.** A piece is one video access unit with the audio that has arrived since the last one, so that a viewer costs one
//!   wake-up and one write a picture. Video never waits for audio.
//! - **Cuts.** A segment is one or more whole groups of pictures; `cutter` decides. Every cutter has a segment of its own,
//!   and all get the same pieces: usually there is one, and while an encoder's broken promise is being mended there are two.
//!
//! One packager lives as long as its stream and is used by one publisher at a time.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tracing::{debug, info, warn};

use super::Now;
use super::clock::{DateClock, PictureClock};
use super::cutter::{Cut, Cutter};
use super::gathering::{Gathering, Seen};
use super::output::Output;
use super::parts::PartPlan;
use super::segment::Piece;
use super::session::Start;
use crate::media::{AccessUnit, AudioConfig, Track, Tracks, VideoConfig};
use crate::time::Ticks;
use crate::ts::Muxer;

use self::sound_alone::Alone;

/// How segments are made and kept. Ranges are checked by [`crate::config`].
#[derive(Debug, Clone)]
pub struct Settings {
    /// A segment is cut at the first key frame at or after this.
    pub segment_duration: Duration,
    /// Length of a part, rounded to whole pictures.
    pub part_duration: Duration,
    /// TARGETDURATION in seconds; learnt from the first group of pictures when not given.
    pub target_duration: Option<u32>,
    /// Segments announced after the growing one; computed from the segments' length when not given.
    pub announce: Option<usize>,
    /// How long a segment can be fetched after the playlist has forgotten it.
    pub retain: Duration,
    /// Bytes a stream may keep.
    pub retain_bytes: u64,
}

/// What has gone out so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Pieces published.
    pub pieces: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Base parts closed.
    pub parts: u64,
    /// Access units that could not be carried or came before anything could start.
    pub dropped: u64,
}

/// Makes a stream's segments.
#[derive(Debug)]
pub struct Packager {
    settings: Settings,
    output: Arc<Output>,
    muxer: Muxer,
    /// The tracks as the publisher last configured them; the muxer follows at the next cut.
    configured: Tracks,
    /// Which tracks have sent a frame: what is only configured may never come, and is not listed.
    seen: Seen,
    /// Access units held back; `None` once live.
    gathering: Option<Gathering>,
    /// A new run has begun and has not sent its first picture.
    resuming: bool,
    last_audio: Option<Ticks>,
    /// Decoding time of the latest access unit of any track.
    last_unit: Option<Ticks>,
    /// Decoding times of the latest access unit of each track.
    last_of_video: Option<Ticks>,
    last_of_audio: Option<Ticks>,
    /// All pauses of this run, which its times are put back by.
    pauses: Ticks,
    /// The ones among them that one track has shown and the other has not confirmed yet.
    doubtful: Option<(Track, Ticks)>,
    /// When the latest piece went out.
    last_piece: Option<Instant>,
    /// The media's wall-clock time is to be set anew.
    clock_jumped: bool,
    /// Audio that waits for its ride.
    audio: Vec<AccessUnit>,
    cutters: Vec<Cutter>,
    /// When the latest of them was begun.
    opened: Option<SystemTime>,
    /// The base part that is being filled.
    part: Option<OpenPart>,
    plan: Option<PartPlan>,
    clock: DateClock,
    pictures: PictureClock,
    peak_bit_rate: u64,
    stats: Stats,
    gop_warned: bool,
    /// Segments have ended with the last picture of a group, and the picture after it has not come.
    foretold: bool,
    /// The sound that has come since the last picture.
    alone: Option<Alone>,
}

/// A base part that is being filled.
#[derive(Debug, Clone, Copy)]
struct OpenPart {
    pictures: u32,
    /// Decoding time of its first picture.
    start: Option<Ticks>,
    independent: bool,
    /// Time of the sound in it that has gone out by itself.
    sound: Ticks,
}

impl Packager {
    /// A packager of a stream that has not started.
    pub fn new(settings: Settings, output: Arc<Output>) -> Self {
        Self {
            settings,
            output,
            muxer: Muxer::new(),
            configured: Tracks::default(),
            seen: Seen::default(),
            gathering: Some(Gathering::default()),
            resuming: false,
            last_audio: None,
            last_unit: None,
            last_of_video: None,
            last_of_audio: None,
            pauses: Ticks::ZERO,
            doubtful: None,
            last_piece: None,
            clock_jumped: false,
            audio: Vec::new(),
            cutters: Vec::new(),
            opened: None,
            part: None,
            plan: None,
            clock: DateClock::default(),
            pictures: PictureClock::default(),
            peak_bit_rate: 0,
            stats: Stats::default(),
            gop_warned: false,
            foretold: false,
            alone: None,
        }
    }

    /// What has gone out so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// What a segment is meant to last.
    pub fn segment_duration(&self) -> Duration {
        self.settings.segment_duration
    }

    /// Whether pieces are going out.
    pub fn is_live(&self) -> bool {
        self.gathering.is_none()
    }

    /// The tracks that are listed.
    pub fn tracks(&self) -> &Tracks {
        self.muxer.tracks()
    }

    /// The publisher's video configuration, from the next key frame on.
    pub fn configure_video(&mut self, config: VideoConfig) {
        self.configured.video = Some(config);
    }

    /// The publisher's audio configuration, from the next audio frame on.
    pub fn configure_audio(&mut self, config: AudioConfig) {
        self.configured.audio = Some(config);
    }

    /// Takes the next access unit, in order of arrival.
    pub fn push(&mut self, unit: AccessUnit, now: Now) {
        let Some(gathering) = &mut self.gathering else {
            return self.push_live(unit, now);
        };
        match unit.track {
            // A decoder cannot start here, so neither can a stream.
            Track::Video if !self.seen.video && !unit.key => {
                self.stats.dropped += 1;
                return;
            }
            Track::Video => gathering.first_video = gathering.first_video.or(Some(now.instant)),
            Track::Audio => gathering.first_audio = gathering.first_audio.or(Some(now.instant)),
        }
        self.seen.note(unit.track);
        gathering.add(unit, now);
        let limit = self.settings.retain_bytes / 4;
        if gathering.complete(&self.configured, limit, now.instant) {
            self.go_live();
        }
    }

    /// The publisher has gone, perhaps to come back: what waits is sent and the growing segment finished; announced ones stay.
    pub fn pause(&mut self, now: Now) {
        self.finish_run(now);
        let end = self.pictures.end;
        let next = Start {
            date: self.clock.date(end),
            independent: true,
            discontinuity: false,
        };
        for cutter in &mut self.cutters {
            if cutter.segment().piece_count() > 0 {
                cutter.roll(end, end, next, &Bytes::new(), now);
            }
            if let Some(last) = self.last_piece {
                cutter.publisher_left(last, now);
            }
        }
        self.render_multivariant();
        self.configured = Tracks::default();
        self.seen = Seen::default();
        self.gathering = Some(Gathering::default());
        self.resuming = !self.cutters.is_empty();
        // The next run is told where to start on the timeline as it is.
        self.pauses = Ticks::ZERO;
        self.doubtful = None;
    }

    /// Where the next run's first access unit belongs on the timeline, to continue it: right behind the last one. `None` before the
    /// first run has sent anything.
    pub fn resume_at(&self) -> Option<Ticks> {
        let last = self.pictures.last_dts?;
        let alone = self
            .alone
            .zip(self.last_audio)
            .map_or(Ticks::ZERO, |(alone, last)| last - alone.since);
        // Sound that went on without pictures has been heard, and the clock has gone on with it.
        let next = last + self.pictures.interval;
        Some(if alone > PICTURES_AWAY {
            next.max(last + alone)
        } else {
            next
        })
    }

    /// Ends the stream: what waits is sent, the last segment finished, announced ones withdrawn.
    pub fn end(&mut self, now: Now) {
        self.finish_run(now);
        self.send_sound_alone(now);
        for cutter in &self.cutters {
            cutter.end(self.pictures.end, now);
        }
        self.render_multivariant();
        self.cutters.clear();
        self.output.end();
    }

    /// Sends what waits and sees to it that everything sent so far can be watched.
    fn finish_run(&mut self, now: Now) {
        if self
            .gathering
            .as_ref()
            .is_some_and(|gathering| !gathering.units.is_empty())
        {
            self.go_live();
        }
        // A segment that nothing has come for is left to the next run, and the sound with it.
        if !self.foretold || self.cutters.iter().any(Cutter::has_begun) {
            self.flush_audio(now);
            self.audio.clear();
        }
        self.close_part(None);
        if self.cutters.is_empty() {
            return;
        }
        let (end, plan) = (self.pictures.end, self.part_plan());
        for cutter in self.cutters.iter_mut().filter(|cutter| !cutter.is_open()) {
            self.output
                .add(cutter.open_for(end - cutter.start_pts(), plan, &self.settings, now));
        }
    }

    fn go_live(&mut self) {
        let Some(Gathering { units, .. }) = self.gathering.take() else {
            return;
        };
        let first_picture = units.iter().find(|(unit, _)| unit.track == Track::Video);
        let start = first_picture
            .or_else(|| units.first())
            .map(|(unit, _)| unit.pts);
        if !self.resuming {
            self.muxer.set_tracks(self.present_tracks());
        }
        for (unit, arrival) in units {
            // Sound from before the first picture has nothing to be heard with.
            if unit.track == Track::Audio && start.is_some_and(|start| unit.pts < start) {
                self.stats.dropped += 1;
            } else {
                self.push_live(unit, arrival);
            }
        }
    }

    fn push_live(&mut self, unit: AccessUnit, now: Now) {
        let unit = self.close_pause(unit);
        if unit.track == Track::Audio || unit.key {
            self.seen.note(unit.track);
        }
        let last_sound = self.audio.last().map(|last| last.pts).or(self.last_audio);
        if unit.track == Track::Audio && last_sound.is_some_and(|last| unit.pts <= last) {
            // Within a run times rise; the last run's sound reached further than its pictures.
            self.stats.dropped += 1;
            return;
        }
        if self.resuming {
            self.resume(&unit, now);
        }
        let listed = match unit.track {
            Track::Video => self.muxer.tracks().video.is_some(),
            Track::Audio => self.muxer.tracks().audio == self.configured.audio,
        };
        match unit.track {
            Track::Video if !listed && !unit.key => self.stats.dropped += 1,
            Track::Video => self.push_picture(unit, now),
            // New or changed sound starts with the next group of pictures, under a discontinuity.
            Track::Audio if !listed && self.muxer.tracks().video.is_some() => {
                self.stats.dropped += 1
            }
            Track::Audio if self.muxer.tracks().video.is_some() => {
                let until_next = unit.pts + self.audio_frame();
                let picture = self.pictures.latest();
                self.alone.get_or_insert(Alone {
                    since: unit.pts,
                    picture,
                });
                self.audio.push(unit);
                let oldest = self.audio.first().map(|first| first.pts);
                if oldest.is_some_and(|oldest| until_next - oldest > LONGEST_AUDIO_HOLD) {
                    self.cut_for_sound(now);
                    self.flush_audio(now);
                }
            }
            Track::Audio => self.push_picture(unit, now),
        }
    }

    /// A new run's first access unit: its segment is the one that the last run's end left pending.
    fn resume(&mut self, unit: &AccessUnit, now: Now) {
        self.resuming = false;
        self.foretold = false;
        self.alone = None;
        let changed = self.tracks_change();
        let filler = if changed {
            self.drop_sound();
            self.adopt_tracks()
        } else {
            Bytes::new()
        };
        self.clock.note(unit.pts, now.wall, true);
        self.pictures.resume(unit.pts);
        let start = Start {
            date: self.clock.date(unit.pts),
            independent: unit.key,
            discontinuity: changed,
        };
        let outage = self.last_piece.map_or(Duration::ZERO, |last| {
            now.instant.saturating_duration_since(last)
        });
        for cutter in &mut self.cutters {
            cutter.restart(unit.pts, start, outage, &filler, now);
        }
        self.render_multivariant();
    }

    /// Sends an access unit of the track that decides about cuts: video, or audio where there is no video.
    fn push_picture(&mut self, unit: AccessUnit, now: Now) {
        let changed = unit.key && self.tracks_change();
        self.alone = None;
        self.pictures.note(&unit, self.audio_frame());
        let jumped = std::mem::take(&mut self.clock_jumped);
        self.clock
            .note(unit.pts, now.wall, jumped || self.cutters.is_empty());
        if self.cutters.is_empty() {
            if !unit.key {
                self.stats.dropped += 1;
                return;
            }
            self.start_first(&unit, now);
        }
        if std::mem::take(&mut self.foretold) {
            self.check_foretold(&unit, changed, now);
        }
        let is_key_frame = unit.key && unit.track == Track::Video;
        if is_key_frame {
            // Closed before the sessions learn of the key frame, so that the part belongs to the group that it ends.
            self.close_part(Some(unit.dts));
        }
        self.learn(&unit, now);
        let interval = self.pictures.interval;
        let cuts: Vec<Cut> = self
            .cutters
            .iter()
            .map(|cutter| cutter.decide((&unit).into(), changed, interval, &self.settings))
            .collect();
        if cuts.iter().any(|&cut| cut != Cut::No) {
            if changed {
                // Sound of the old kind cannot follow the change. Other sound that waits rides in the next segment.
                self.flush_audio(now);
            }
            self.close_part(Some(unit.dts));
            // Before the cut, while the segment that is ended still holds the whole group.
            self.watch_promise(&unit, &cuts, now);
            self.cut(&unit, &cuts, changed, now);
        } else if self.part_would_be_too_long(unit.dts) {
            self.close_part(Some(unit.dts));
        }
        let mut bytes = Vec::new();
        let starts_part = self.open_part(&mut bytes);
        if !starts_part {
            self.write_audio(&mut bytes);
        }
        let parameter_sets = unit.key || self.part.is_some_and(|part| part.pictures == 0);
        self.write(&unit, parameter_sets, &mut bytes);
        self.write_audio(&mut bytes);
        self.publish(bytes, now);
        if let Some(part) = &mut self.part {
            part.pictures += 1;
            part.start = part.start.or(Some(unit.dts));
            part.independent |= starts_part && unit.key;
            // Complete at once, not when the next picture comes. Until the sessions are open, every picture is a part.
            if part.pictures >= self.plan.map_or(1, |plan| plan.pictures) {
                self.close_part(None);
            }
        }
        self.foretell(unit.dts, now);
    }

    /// Starts a base part, with the tables, unless one is being filled. True if it did.
    fn open_part(&mut self, bytes: &mut Vec<u8>) -> bool {
        if self.part.is_some() {
            return false;
        }
        self.muxer.write_tables(bytes);
        self.part = Some(OpenPart {
            pictures: 0,
            start: None,
            independent: false,
            sound: Ticks::ZERO,
        });
        true
    }

    fn part_would_be_too_long(&self, dts: Ticks) -> bool {
        let (
            Some(plan),
            Some(OpenPart {
                start: Some(start), ..
            }),
        ) = (self.plan, self.part)
        else {
            return false;
        };
        (dts + plan.picture - start).as_duration() > plan.target + PART_SLACK
    }

    /// Closes the base part that is being filled, if any: in front of an access unit at `next`, or because it is full.
    fn close_part(&mut self, next: Option<Ticks>) {
        let Some(part) = self.part.take() else { return };
        self.stats.parts += 1;
        let picture = self
            .plan
            .map_or(self.pictures.interval, |plan| plan.picture);
        let full = match part.pictures {
            0 => part.sound.max(self.audio_frame()),
            pictures => Ticks::new(picture.get() * i64::from(pictures)),
        };
        let duration = match (next, part.start) {
            (Some(next), Some(start)) => next - start,
            _ => full,
        };
        let duration = duration
            .as_duration()
            .min(self.plan.map_or(Duration::MAX, |plan| plan.target));
        for cutter in &mut self.cutters {
            cutter.add_part(duration, part.independent);
        }
    }

    /// How long parts are, decided when the first session opens and kept from then on.
    fn part_plan(&mut self) -> PartPlan {
        *self.plan.get_or_insert_with(|| {
            let measured = self
                .pictures
                .frame_rate()
                .filter(|_| self.muxer.tracks().video.is_some());
            let picture = measured.map_or(self.pictures.interval, |rate| {
                Ticks::new((Ticks::PER_SECOND as f64 / rate).round() as i64)
            });
            PartPlan::new(picture, self.settings.part_duration)
        })
    }

    /// The time that a session opens at, which it is named after: never the same millisecond twice, however much comes in one.
    fn opening(&mut self, now: Now) -> Now {
        let next = self.opened.map(|opened| opened + Duration::from_millis(1));
        let wall = next.map_or(now.wall, |next| next.max(now.wall));
        self.opened = Some(wall);
        Now { wall, ..now }
    }

    /// Starts the first segment.
    fn start_first(&mut self, unit: &AccessUnit, now: Now) {
        let start = Start {
            date: self.clock.date(unit.pts),
            independent: unit.key,
            discontinuity: false,
        };
        let mut cutter = Cutter::new(unit.pts, start, self.opening(now));
        // Audio is cut by time, so there is nothing to learn: the playlist can be had at once.
        if unit.track == Track::Audio {
            let plan = self.part_plan();
            let expected = Ticks::from_duration(self.settings.segment_duration);
            self.output
                .add(cutter.open_for(expected, plan, &self.settings, now));
        }
        self.cutters.push(cutter);
    }

    /// Opens the sessions that wait to know what to promise: a key frame tells the length of the group of pictures before it; with a
    /// configured TARGETDURATION a few pictures are enough, to tell how long parts are.
    fn learn(&mut self, unit: &AccessUnit, now: Now) {
        let mut opened = false;
        for index in 0..self.cutters.len() {
            let gop = unit
                .key
                .then(|| self.cutters[index].note_key(unit.pts))
                .flatten();
            if let Some(gop) = gop.filter(|_| unit.track == Track::Video) {
                self.warn_of_long_group(gop);
            }
            if self.cutters[index].is_open() {
                continue;
            }
            let configured = self.settings.target_duration.is_some()
                && self.cutters[index].segment().piece_count() >= PICTURES_TO_MEASURE;
            let Some(gop) = gop.or_else(|| configured.then_some(self.settings.segment_duration))
            else {
                continue;
            };
            let plan = self.part_plan();
            let cutter = &mut self.cutters[index];
            self.output
                .add(cutter.open_for(Ticks::from_duration(gop), plan, &self.settings, now));
            opened = true;
        }
        if opened {
            self.render_multivariant();
        }
    }

    fn warn_of_long_group(&mut self, gop: Duration) {
        if self.gop_warned || gop <= LONG_GOP || gop <= self.settings.segment_duration * 3 / 2 {
            return;
        }
        self.gop_warned = true;
        warn!(
            seconds = gop.as_secs_f64(),
            "key frames come rarely, so viewers start late and far behind; set the encoder's key frame interval to 1 s \
             (OBS: Settings, Output, Keyframe Interval; ffmpeg: -g with the number of frames a second)"
        );
    }

    fn cut(&mut self, unit: &AccessUnit, cuts: &[Cut], changed: bool, now: Now) {
        let filler = if changed {
            self.adopt_tracks()
        } else {
            Bytes::new()
        };
        let date = self.clock.date(unit.pts);
        let plan = self.part_plan();
        for (cutter, &cut) in self.cutters.iter_mut().zip(cuts) {
            if cut == Cut::No {
                continue;
            }
            if !cutter.is_open() {
                self.output
                    .add(cutter.open_for(LONGEST_TARGET, plan, &self.settings, now));
            }
            let start = Start {
                date,
                independent: unit.key,
                discontinuity: changed,
            };
            let end = if cut == Cut::Gap {
                self.pictures.end_before_gap
            } else {
                unit.pts
            };
            let ended = cutter.roll(end, unit.pts, start, &filler, now);
            self.peak_bit_rate = self.peak_bit_rate.max(ended.map_or(0, bit_rate));
        }
        self.retire_idle(now);
        self.render_multivariant();
    }

    /// In front of a cut inside a group of pictures: the encoder's key frames are further apart than the session's TARGETDURATION allows.
    /// Whoever plays this session goes on with cuts inside the group; for those who come, a new session learns the new interval.
    fn watch_promise(&mut self, unit: &AccessUnit, cuts: &[Cut], now: Now) {
        let Some(newest) = self.cutters.last() else {
            return;
        };
        if cuts.get(self.cutters.len() - 1) != Some(&Cut::Forced)
            || !newest.is_open()
            || newest.is_widest()
            || !newest.is_overdue(unit.pts, self.pictures.missing)
        {
            return;
        }
        // A session can only start with a key frame. Where this group's has gone with an earlier segment, the next group is waited for.
        let Some((key_pts, pieces, parts)) = newest.last_group() else {
            return;
        };
        if !self.gop_warned {
            self.gop_warned = true;
            warn!(
                target_duration = newest.session().target_duration(),
                "the encoder has let its key frame interval grow; new viewers get a new playlist once the new interval is known. \
                 Set a fixed key frame interval of 1 s (OBS: Settings, Output, Keyframe Interval)"
            );
        }
        let start = Start {
            date: self.clock.date(key_pts),
            independent: true,
            discontinuity: false,
        };
        let mut cutter = Cutter::new(key_pts, start, self.opening(now));
        cutter.resume(pieces, parts);
        self.cutters.push(cutter);
    }

    /// Closes sessions that have been replaced and that nobody asks for any more.
    fn retire_idle(&mut self, now: Now) {
        let newest_open = self.cutters.iter().rposition(Cutter::is_open);
        let (end, output) = (self.pictures.end, &self.output);
        let mut index = 0;
        self.cutters.retain(|cutter| {
            let replaced = newest_open.is_some_and(|newest| index < newest);
            index += 1;
            let idle =
                replaced && cutter.is_open() && cutter.session().idle(now.instant) > RETIRE_AFTER;
            if idle {
                debug!(
                    session = cutter.session().id(),
                    "a replaced playlist has no viewers left"
                );
                cutter.end(end, now);
                output.remove(cutter.session().id());
            }
            !idle
        });
    }

    /// Whether the publisher's configuration is no longer the one that is listed, in a way that players have to know.
    fn tracks_change(&self) -> bool {
        let listed = self.muxer.tracks();
        let audio = self.configured.audio.as_ref().filter(|_| self.seen.audio);
        // Another picture size or profile comes with its own parameter sets, which every player takes as it goes; a discontinuity would cost
        // hls.js viewers the stream (see `Session::begin`).
        let has_video = self.configured.video.is_some() && self.seen.video;
        listed.video.is_some() != has_video || listed.audio.as_ref() != audio
    }

    /// The tracks that the publisher has configured and sent something of.
    fn present_tracks(&self) -> Tracks {
        Tracks {
            video: self.configured.video.clone().filter(|_| self.seen.video),
            audio: self.configured.audio.clone().filter(|_| self.seen.audio),
        }
    }

    /// Lists the tracks that the publisher has now. Returns what announced segments consist of that nothing will be put into: the tables, and
    /// packets of nothing, so that a player knows it for a transport stream.
    fn adopt_tracks(&mut self) -> Bytes {
        let tracks = self.present_tracks();
        info!(
            video = ?tracks.video.as_ref().map(VideoConfig::codec_string),
            audio = ?tracks.audio.as_ref().map(AudioConfig::codec_string),
            "the publisher's tracks have changed"
        );
        self.muxer.set_tracks(tracks);
        self.muxer.filler().into()
    }

    /// Sends the waiting audio as a piece of its own.
    fn flush_audio(&mut self, now: Now) {
        if self.audio.is_empty() || self.cutters.is_empty() {
            return;
        }
        let mut bytes = Vec::new();
        self.open_part(&mut bytes);
        let length = self.carry_sound_alone(&mut bytes);
        self.write_audio(&mut bytes);
        self.publish(bytes, now);
        self.note_sound_alone(length);
    }

    fn write_audio(&mut self, bytes: &mut Vec<u8>) {
        let mut waiting = std::mem::take(&mut self.audio);
        for unit in waiting.drain(..) {
            self.write(&unit, false, bytes);
        }
        self.audio = waiting;
    }

    fn write(&mut self, unit: &AccessUnit, parameter_sets: bool, bytes: &mut Vec<u8>) {
        if unit.track == Track::Video
            && unit.key
            && let Some(config) = &self.configured.video
            && self.muxer.tracks().video.as_ref() != Some(config)
        {
            // The same format with other parameter sets: no player needs to be told, but the bytes must follow.
            let tracks = Tracks {
                video: Some(config.clone()),
                audio: self.muxer.tracks().audio.clone(),
            };
            self.muxer.set_tracks(tracks);
        }
        if unit.track == Track::Audio {
            self.last_audio = Some(unit.pts);
        }
        if let Err(error) = self.muxer.write(unit, parameter_sets, bytes) {
            debug!(%error, "an access unit cannot be carried");
            self.stats.dropped += 1;
        }
    }

    fn publish(&mut self, mut bytes: Vec<u8>, now: Now) {
        if bytes.is_empty() {
            return;
        }
        // The ring keeps pieces for many seconds; what the estimate reserved too much is given back here.
        bytes.shrink_to_fit();
        let piece = Piece {
            bytes: Bytes::from(bytes),
            published: now.instant,
        };
        self.last_piece = Some(now.instant);
        self.stats.pieces += 1;
        self.stats.bytes += piece.bytes.len() as u64;
        for cutter in &self.cutters {
            cutter.segment().append(piece.clone());
        }
    }

    fn audio_frame(&self) -> Ticks {
        let (samples, rate) = self
            .muxer
            .tracks()
            .audio
            .as_ref()
            .map_or((1024, 44_100), AudioConfig::frame);
        Ticks::new(i64::from(samples) * Ticks::PER_SECOND / i64::from(rate.max(1)))
    }
}

/// Bits a second of a segment of so many bits; nothing for one too short to tell.
fn bit_rate((bits, duration): (u64, Duration)) -> u64 {
    if duration < Duration::from_millis(200) {
        return 0;
    }
    (bits as f64 / duration.as_secs_f64()).ceil() as u64
}

/// Sound without pictures for longer than this is no interleaving of the two.
const PICTURES_AWAY: Ticks = Ticks::from_millis(500);
/// Pictures from which their distance can be told.
const PICTURES_TO_MEASURE: usize = 4;
/// Publishers' times are whole milliseconds, so a part may seem this much longer than it is.
const PART_SLACK: Duration = Duration::from_millis(2);
/// The programme clock runs 100 ms ahead of pictures, and sound that waited longer for its picture would be late by that clock. At
/// some ten pictures a second or fewer it goes out by itself. Two milliseconds less, for the rounding of publishers' times.
const LONGEST_AUDIO_HOLD: Ticks = Ticks::from_millis(98);
/// A session that has been replaced is kept for as long as somebody asks for its playlist at least this often.
const RETIRE_AFTER: Duration = Duration::from_secs(30);
/// Groups of pictures up to this long are not worth a warning whatever the segment duration.
const LONG_GOP: Duration = Duration::from_millis(1500);
/// The TARGETDURATION of a stream whose key frames are further apart than anybody should set them, or never come.
pub(super) const LONGEST_TARGET: Ticks = Ticks::from_millis(12_000);

mod foretelling;
mod pauses;
mod sound_alone;
mod variants;

#[cfg(test)]
mod tests;
