//! The multivariant playlists of a stream: what they tell of the newest open session, in each form.

use super::Packager;
use crate::hls::names::{Early, Listed, low_latency_name, media_name, prefetch_name};
use crate::hls::output::MultivariantForms;
use crate::hls::playlist::{Multivariant, Rendered, Variant};
use crate::media::{AudioConfig, VideoConfig};

impl Packager {
    pub(super) fn render_multivariant(&mut self) {
        let Some(plan) = self.plan else { return };
        let Some(cutter) = self.cutters.iter().rfind(|cutter| cutter.is_open()) else {
            return;
        };
        let elapsed = (self.pictures.end - cutter.start_pts()).as_seconds_f64();
        if self.peak_bit_rate == 0 && elapsed > 0.0 {
            self.peak_bit_rate = (cutter.segment().size() as f64 * 8.0 / elapsed).ceil() as u64;
        }
        let tracks = self.muxer.tracks();
        let codecs = tracks.video.iter().map(VideoConfig::codec_string);
        let variant = Variant {
            uri: String::new(),
            bandwidth: self.peak_bit_rate.max(1),
            average_bandwidth: cutter
                .average_bit_rate()
                .unwrap_or(self.peak_bit_rate)
                .max(1),
            codecs: codecs
                .chain(tracks.audio.iter().map(AudioConfig::codec_string))
                .collect(),
            resolution: tracks.video.as_ref().map(VideoConfig::resolution),
            frame_rate: tracks
                .video
                .as_ref()
                .and_then(|_| self.pictures.frame_rate()),
        };
        let target = cutter.session().target_duration();
        let render = |uri: String, independent: bool| {
            let variants = vec![Variant {
                uri,
                ..variant.clone()
            }];
            Rendered::new(Multivariant { variants }.render(independent))
        };
        let low_latency = cutter.session().part_factors().into_iter().map(|factor| {
            // The tag would promise a key frame in every part.
            (
                plan.target * factor as u32,
                Listed::ALL.map(|listed| render(low_latency_name(listed, factor, target), false)),
            )
        });
        self.output.set_multivariant(MultivariantForms {
            early: Early::ALL
                .map(|early| render(media_name(early, target), cutter.is_independent())),
            prefetch: render(prefetch_name(target), cutter.is_independent()),
            low_latency: low_latency.collect(),
        });
    }
}
