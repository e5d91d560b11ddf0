//! Pings, acknowledgements and aggregates.

use super::*;

#[test]
fn ping_is_sent_and_answered() {
    let mut peer = Peer::publishing();
    peer.session.ping(70_000);
    assert_eq!(peer.replies(), ["user 6 70000"]);
    peer.message(4, 0, 0, &[0, 7, 0, 1, 0x11, 0x70]).unwrap();
    peer.message(4, 0, 0, &[0, 6, 0, 0, 0, 9]).unwrap();
    assert_eq!(peer.replies(), ["user 7 9"]);
}

#[test]
fn acks_carry_the_running_total_at_half_the_window() {
    let mut peer = Peer::publishing();
    let already = peer.session.acks.total();
    peer.bytes(&test_util::control(5, &20_000_u32.to_be_bytes()))
        .unwrap();
    let media = |length: usize| {
        let message = Message {
            kind: 9,
            stream_id: 1,
            timestamp: 0,
            payload: vec![1; length].into(),
        };
        test_util::message(6, &message, 128)
    };
    let mut total = already + 16;
    for expected in [false, true, false, true] {
        let bytes = media(6000);
        total += bytes.len() as u32;
        // In two pieces, of which the first ends inside a chunk: nothing may count twice.
        peer.bytes(&bytes[..3000]).unwrap();
        peer.bytes(&bytes[3000..]).unwrap();
        let expected = expected.then(|| format!("ack {total}"));
        assert_eq!(peer.replies(), expected.into_iter().collect::<Vec<_>>());
    }
}

fn flv_tag(kind: u8, time: u32, body: &[u8]) -> Vec<u8> {
    let mut tag = vec![kind];
    tag.extend(&(body.len() as u32).to_be_bytes()[1..]);
    tag.extend(&time.to_be_bytes()[1..]);
    tag.push(time.to_be_bytes()[0]);
    tag.extend([0; 3]);
    tag.extend(body);
    tag.extend((11 + body.len() as u32).to_be_bytes());
    tag
}

#[test]
fn aggregates_are_split_and_their_times_rebased() {
    let mut peer = Peer::publishing();
    let mut bytes = [
        flv_tag(9, 0x0100_0000, b"picture"),
        flv_tag(8, 0x0100_0015, b"sound"),
        flv_tag(
            18,
            0x0100_0015,
            &amf::encode(&[string("onMetaData")]).unwrap(),
        ),
        flv_tag(8, 0x0100_0015, b""),
        flv_tag(8, 0x0100_002a, b"more"),
    ]
    .concat();
    // The last back pointer is left out, then a tag is cut short.
    bytes.truncate(bytes.len() - 4);
    peer.message(22, 1, 5000, &bytes).unwrap();
    let expected = [
        Event::Video {
            timestamp: 5000,
            payload: "picture".into(),
        },
        Event::Audio {
            timestamp: 5021,
            payload: "sound".into(),
        },
        Event::Audio {
            timestamp: 5042,
            payload: "more".into(),
        },
    ];
    assert_eq!(peer.events, expected);
    peer.events.clear();
    let cut = [
        &flv_tag(9, 7, b"picture")[..],
        &flv_tag(8, 9, b"sound")[..13],
    ]
    .concat();
    peer.message(22, 1, 100, &cut).unwrap();
    assert_eq!(peer.events.len(), 1);
}
