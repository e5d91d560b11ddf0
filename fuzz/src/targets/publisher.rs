//! A publisher's connection without its socket: session, demuxer and publication, put together as the server puts them together, with a
//! clock that the input drives.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use lhls::flv::{self, Demuxer};
use lhls::hls::Now;
use lhls::hls::packager::Settings;
use lhls::rtmp::session::{Event, Refusal, Session, SessionConfig};
use lhls::stream::name::StreamName;
use lhls::stream::registry::{Policy, Registry};
use lhls::stream::{Publication, Reconnect};

/// Streams with the smallest rings that the options allow.
pub fn registry() -> Registry {
    Registry::new(Policy {
        packager: Settings {
            segment_duration: Duration::from_millis(500),
            part_duration: Duration::from_millis(67),
            target_duration: None,
            announce: None,
            retain: Duration::from_secs(10),
            retain_bytes: RETAIN_BYTES,
        },
        max_streams: 4,
        take_over: true,
        reconnect: Reconnect {
            after_loss: Duration::from_secs(30),
            after_goodbye: Duration::from_secs(10),
        },
    })
}

/// Bytes a stream may keep.
pub const RETAIN_BYTES: u64 = 4 << 20;

/// The moment that lies this far behind the start of all.
pub fn moment(after_start: Duration) -> Now {
    static START: OnceLock<Instant> = OnceLock::new();
    Now {
        instant: *START.get_or_init(Instant::now) + after_start,
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + after_start,
    }
}

/// A connection whose handshake is over.
pub struct Connection {
    session: Session,
    input: BytesMut,
    run: Option<(Publication, Demuxer)>,
    pending: Vec<flv::Event>,
    over: bool,
}

impl Connection {
    pub fn new() -> Self {
        Self {
            session: Session::after_handshake(SessionConfig::default()),
            input: BytesMut::new(),
            run: None,
            pending: Vec::new(),
            over: false,
        }
    }

    /// Takes bytes; after an error none any more.
    pub fn feed(&mut self, registry: &Registry, bytes: &[u8], now: Now) {
        if self.over {
            return;
        }
        self.input.extend_from_slice(bytes);
        let mut events = Vec::new();
        loop {
            let fed = self.session.feed(&mut self.input, &mut events);
            let mut verdict_given = false;
            for event in events.drain(..) {
                verdict_given |= matches!(event, Event::Publish(_));
                self.over |= !self.handle(registry, event, now);
                if self.over {
                    break;
                }
            }
            if let Some((publication, _)) = &mut self.run {
                publication.push(self.pending.drain(..), now);
            }
            while self.session.take_output().is_some() {}
            self.over |= fed.is_err();
            if self.over || !verdict_given {
                break;
            }
        }
        if self.over {
            self.close(now);
        }
    }

    /// False when the connection must end.
    fn handle(&mut self, registry: &Registry, event: Event, now: Now) -> bool {
        let result = match (event, &mut self.run) {
            (Event::Publish(request), _) => {
                let publication = StreamName::new(&request.app, &request.name)
                    .ok()
                    .and_then(|name| registry.publish(name, now).ok());
                let Some(publication) = publication else {
                    self.session.refuse_publish(&Refusal::bad_name("No."));
                    return false;
                };
                self.session.accept_publish();
                self.run = Some((publication, Demuxer::new()));
                return true;
            }
            (Event::Video { timestamp, payload }, Some((_, demuxer))) => {
                demuxer.video(timestamp, payload, &mut self.pending)
            }
            (Event::Audio { timestamp, payload }, Some((_, demuxer))) => {
                demuxer.audio(timestamp, payload, &mut self.pending)
            }
            (Event::Unpublish, Some((publication, _))) => {
                publication.push(self.pending.drain(..), now);
                publication.say_goodbye();
                self.close(now);
                Ok(())
            }
            (Event::Metadata(_), _) => Ok(()),
            (Event::Connect(_), _) => unreachable!("connecting needs no verdict here"),
            (event, None) => panic!("{event:?} without a publish"),
        };
        !matches!(result, Err(flv::Error::Unsupported { .. }))
    }

    /// The connection is lost.
    pub fn close(&mut self, now: Now) {
        if let Some((publication, _)) = self.run.take() {
            publication.end(now);
        }
        self.pending.clear();
    }
}
