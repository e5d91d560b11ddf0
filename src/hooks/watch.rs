//! What nobody announces and has to be looked for: streams that are over, and how many are watching.

use std::collections::HashMap;
use std::time::{Instant, SystemTime};

use serde_json::json;

use super::{Event, Hooks};
use crate::stream::registry::Registry;

/// Looks at the table of streams now and then.
#[derive(Debug, Default)]
pub struct Watch {
    /// When each live stream started, and how many watched it last.
    live: HashMap<String, (SystemTime, Option<usize>)>,
    counted: Option<Instant>,
}

impl Watch {
    /// Looks, and tells what has changed. To be called about once a second.
    pub fn look(&mut self, registry: &Registry, hooks: &Hooks, now: Instant) {
        if !hooks.has(Event::StreamEnded) && !hooks.has(Event::Viewers) {
            self.live.clear();
            return;
        }
        let count = self
            .counted
            .is_none_or(|last| now.duration_since(last) >= hooks.viewers_interval());
        if count {
            self.counted = Some(now);
        }
        let mut live = HashMap::new();
        for stream in registry.list() {
            if stream.output().ended() {
                continue;
            }
            let name = stream.name().to_string();
            let known = self.live.remove(&name);
            // One of the same name that started later is another stream.
            let (same, mut viewers) = match known {
                Some((started, viewers)) => (started == stream.started(), viewers),
                None => (true, None),
            };
            if !same {
                ended(hooks, &name);
                viewers = None;
            }
            if count && viewers != Some(stream.viewers()) {
                viewers = Some(stream.viewers());
                hooks.tell(
                    Event::Viewers,
                    json!({"stream": name, "viewers": stream.viewers()}),
                );
            }
            live.insert(name, (stream.started(), viewers));
        }
        for name in self.live.keys() {
            ended(hooks, name);
        }
        self.live = live;
    }
}

fn ended(hooks: &Hooks, name: &str) {
    hooks.tell(Event::StreamEnded, json!({"stream": name}));
}
