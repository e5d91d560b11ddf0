//! The viewers of a soak: each watches some stream for a while, as one kind of player or the other, leaves, and comes again.
//!
//! They are the viewers of [`lhls::viewer`], which check what they get. What they see is judged here: a stall is the server's only
//! as far as no publisher's absence explains it, and no time in which this program itself did not get the processor; and a stream may
//! end only when its publisher was away for good.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lhls::viewer::report::Report;
use lhls::viewer::stats::Totals;
use lhls::viewer::{self, Mode};
use tokio_util::sync::CancellationToken;

use super::cast::{Absence, Kind, Stage};
use super::chance::Chance;

/// What all viewers together have seen.
#[derive(Debug, Default)]
pub struct Seen(Mutex<Verdicts>);

/// Sums.
#[derive(Debug, Default, Clone)]
pub struct Verdicts {
    /// Visits that have ended.
    pub visits: u64,
    /// Pictures seen in them.
    pub pictures: u64,
    /// What was missing or came twice: segments, parts, packets, times.
    pub gaps: u64,
    /// Pictures that encoders left out, being late themselves; only the test picture does that.
    pub skipped: u64,
    /// Stalls that no absence explains.
    pub stalls: u64,
    /// How long these were, together.
    pub stalled: Duration,
    /// Stalls during absences, together.
    pub outage_stalled: Duration,
    /// Visits that ended too early although the stream had not ended.
    pub thrown_out: u64,
    /// Of the first faults, what they were.
    pub faults: Vec<String>,
}

/// What is watched.
#[derive(Debug, Clone)]
pub struct Programme {
    /// Its name.
    pub name: String,
    /// Who publishes it.
    pub kind: Kind,
}

/// One visit, as it goes.
struct Visit<'a> {
    stage: &'a Stage,
    name: &'a str,
    /// Name and kinds, for people.
    what: String,
    looked: Instant,
    /// Microseconds of stalls at that time.
    stalls: f64,
    verdicts: Verdicts,
}

impl Seen {
    /// The sums so far.
    pub fn so_far(&self) -> Verdicts {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Verdicts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, visit: Verdicts) {
        let mut sums = self.lock();
        sums.visits += visit.visits;
        sums.pictures += visit.pictures;
        sums.gaps += visit.gaps;
        sums.skipped += visit.skipped;
        sums.stalls += visit.stalls;
        sums.stalled += visit.stalled;
        sums.outage_stalled += visit.outage_stalled;
        sums.thrown_out += visit.thrown_out;
        for fault in visit.faults {
            println!("         {fault}");
            if sums.faults.len() < MAX_FAULTS {
                sums.faults.push(fault);
            }
        }
    }
}

/// Comes and goes until cancelled.
pub async fn attend(
    stage: Arc<Stage>,
    http: SocketAddr,
    programmes: Arc<[Programme]>,
    seen: Arc<Seen>,
    mut chance: Chance,
    cancel: CancellationToken,
) {
    while !cancel.is_cancelled() {
        let pause = chance.between(Duration::ZERO, LONGEST_PAUSE);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cancel.cancelled() => return,
        }
        let programme = &programmes[chance.below(programmes.len() as u64) as usize];
        let (list, mode) = if chance.one_in(2) {
            ("playlist.m3u8", Mode::Segments)
        } else {
            ("ll.m3u8", Mode::Parts)
        };
        let Ok(url) = format!("http://{http}/{}/{list}?wait=25", programme.name).parse() else {
            return;
        };
        let options = viewer::Options {
            url,
            trust: lhls::dial::Trust::default(),
            mode: Some(mode),
            viewers: 1,
            duration: Some(chance.between(STAYS.0, STAYS.1)),
            buffer: BUFFER,
            decode: false,
        };
        let what = format!("{mode:?} of {}, {:?}", programme.name, programme.kind);
        let mut visit = Visit::new(&stage, &programme.name, what);
        let began = Instant::now();
        let result = viewer::watch(options, cancel.clone(), |_, totals| visit.look(totals)).await;
        match result {
            Ok(report) => visit.conclude(&report, programme.kind, began, &cancel),
            Err(error) => visit.excuse(began, &error.to_string(), &cancel),
        }
        seen.add(visit.verdicts);
    }
}

impl<'a> Visit<'a> {
    fn new(stage: &'a Stage, name: &'a str, what: String) -> Self {
        Self {
            stage,
            name,
            what,
            looked: Instant::now(),
            stalls: 0.0,
            verdicts: Verdicts::default(),
        }
    }

    /// Judges the stalls since the last look, which was about a second ago.
    fn look(&mut self, totals: &Totals) {
        let (now, since) = (Instant::now(), self.looked);
        self.looked = now;
        let all = totals.stalls.sum();
        let new = Duration::from_micros((all - self.stalls).max(0.0) as u64);
        self.stalls = all;
        if new.is_zero() {
            return;
        }
        // It ended between the looks, so it began this long before the first of them at the earliest.
        let from = since.checked_sub(new).unwrap_or(since);
        let mut absences = self.stage.absences(self.name);
        absences.extend(self.stage.standstills());
        let explained: Duration = absences
            .iter()
            .map(|absence| overlap(absence, from, now))
            .sum();
        let beyond = new.saturating_sub(explained);
        self.verdicts.outage_stalled += new - beyond;
        self.verdicts.stalled += beyond;
        if beyond > NOTICED {
            self.verdicts.stalls += 1;
            self.verdicts.faults.push(format!(
                "{}: stalled for {:.2} s, {:.2} s more than an outage explains; {}",
                self.what,
                new.as_secs_f64(),
                beyond.as_secs_f64(),
                self.absent_lately(),
            ));
        }
    }

    fn conclude(
        &mut self,
        report: &Report,
        kind: Kind,
        began: Instant,
        cancel: &CancellationToken,
    ) {
        let totals = &report.totals;
        self.look(totals);
        self.verdicts.visits += 1;
        self.verdicts.pictures += totals.units;
        let skipped = if kind == Kind::PublishTest {
            totals.pictures_missed
        } else {
            0
        };
        self.verdicts.skipped += skipped;
        let gaps = totals.gaps() - skipped;
        self.verdicts.gaps += gaps;
        if gaps > 0 {
            self.verdicts.faults.push(format!(
                "{}: {gaps} gaps: segments {}, parts {}, playlists back {}, pictures {}, times back {}, {:?}; {:.0} s, {}",
                self.what,
                totals.segments_missed,
                totals.parts_missed,
                totals.playlists_back,
                totals.pictures_missed,
                totals.times_back,
                totals.faults,
                began.elapsed().as_secs_f64(),
                self.absent_lately(),
            ));
        }
        if let Some(error) = report.errors.first() {
            self.excuse(began, error, cancel);
        } else if report.ended {
            self.excuse(began, "the stream ended", cancel);
        }
    }

    /// A visit that ended too early: nobody's fault if the publisher was away for so long that the stream ended, or when all is over.
    fn excuse(&mut self, began: Instant, why: &str, cancel: &CancellationToken) {
        let absences = self.stage.absences(self.name);
        let was_away = absences
            .iter()
            .any(|absence| absence.ends_stream && absence.back.is_none_or(|back| back > began));
        if !was_away && !cancel.is_cancelled() {
            self.verdicts.thrown_out += 1;
            let when = self.absent_lately();
            let what = &self.what;
            self.verdicts.faults.push(format!("{what}: {why}; {when}"));
        }
    }

    fn absent_lately(&self) -> String {
        match self.stage.absences(self.name).last() {
            None => "never away".to_owned(),
            Some(absence) => format!(
                "last away {:.1} s ago, {}",
                absence.gone.elapsed().as_secs_f64(),
                absence.back.map_or_else(
                    || "not back".to_owned(),
                    |back| format!("back {:.1} s ago", back.elapsed().as_secs_f64())
                )
            ),
        }
    }
}

/// For how long an absence, and the second that coming back may take, explains that nothing was seen in this time.
fn overlap(absence: &Absence, from: Instant, until: Instant) -> Duration {
    let end = absence.back.map_or(until, |back| back + TO_COME_BACK);
    end.min(until)
        .saturating_duration_since(absence.gone.max(from))
}

/// How long a visit lasts.
const STAYS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(90));
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// What players have before them.
const BUFFER: Duration = Duration::from_secs(1);
/// Stalls that a person notices.
const NOTICED: Duration = Duration::from_millis(250);
/// What an outage may cost a viewer above its own length.
const TO_COME_BACK: Duration = Duration::from_secs(1);
const MAX_FAULTS: usize = 40;
