use super::*;
use proptest::prelude::*;

fn number(value: f64) -> Amf0Value {
    Amf0Value::Number(value)
}

/// `key: value` inside an object, as bytes.
fn pair(key: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, key.len() as u8];
    bytes.extend(key.bytes());
    bytes.extend(value);
    bytes
}

const ONE: [u8; 9] = [0, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0];

#[test]
fn every_kind_of_value() {
    let mut bytes = ONE.to_vec();
    bytes.extend([1, 1, 2, 0, 2, b'h', b'i', 5, 6, 0x0d]);
    bytes.extend([7, 0, 1]);
    bytes.extend([0x0c, 0, 0, 0, 1, b'L']);
    bytes.extend([0x0f, 0, 0, 0, 1, b'X']);
    bytes.push(0x0b);
    bytes.extend(&ONE[1..]);
    bytes.extend([0, 60]);
    bytes.extend([0x0a, 0, 0, 0, 2, 5, 1, 0]);
    let values = decode(&bytes).unwrap();
    let expected = [
        number(1.0),
        Amf0Value::Boolean(true),
        string("hi"),
        Amf0Value::Null,
        Amf0Value::Undefined,
        Amf0Value::Undefined,
        Amf0Value::Undefined,
        string("L"),
        string("X"),
        number(1.0),
        Amf0Value::StrictArray(vec![Amf0Value::Null, Amf0Value::Boolean(false)]),
    ];
    assert_eq!(values, expected);
}

#[test]
fn objects_ecma_arrays_and_typed_objects_are_alike() {
    let fields = [pair("a", &ONE), pair("", &[5]), vec![0, 0, 9]].concat();
    let expected = object([("a", number(1.0)), ("", Amf0Value::Null)]);
    for start in [
        &[3][..],
        // The count is wrong on purpose.
        &[8, 0, 0, 0, 99],
        &[0x10, 0, 1, b'T'],
    ] {
        let bytes = [start, &fields, &ONE].concat();
        assert_eq!(decode(&bytes).unwrap(), [expected.clone(), number(1.0)]);
    }
}

#[test]
fn unterminated_objects_and_arrays_envivio() {
    let expected = object([("a", number(1.0))]);
    for end in [&[][..], &[9], &[0, 0], &[0, 0, 9]] {
        let bytes = [&[3][..], &pair("a", &ONE), end].concat();
        assert_eq!(decode(&bytes).unwrap(), vec![expected.clone()], "{end:?}");
    }
    let array = [&[0x0a, 0xff, 0xff, 0xff, 0xff][..], &ONE].concat();
    assert_eq!(
        decode(&array).unwrap(),
        [Amf0Value::StrictArray(vec![number(1.0)])]
    );
}

#[test]
fn values_cut_short_are_refused() {
    for (bytes, what, at) in [
        (&[2, 0, 5, b'a'][..], "string", 3),
        (&[2, 0], "string", 1),
        (&[0x0c, 0xff, 0xff, 0xff, 0xff, b'a'], "string", 5),
        (&[0, 1, 2], "number", 1),
        (&[1], "boolean", 1),
        (&[3, 0, 9, b'a'], "string", 3),
        (&[0x0b, 1], "date", 1),
        (&[8, 0], "array", 1),
    ] {
        assert_eq!(
            decode(bytes),
            Err(Error::CutShort { what, at }),
            "{bytes:?}"
        );
    }
}

#[test]
fn nested_5000_deep_is_refused() {
    let arrays = [0x0a, 0, 0, 0, 1].repeat(5000);
    assert_eq!(decode(&arrays), Err(Error::TooDeep(16 * 5)));
    let objects = [3, 0, 1, b'a'].repeat(5000);
    assert_eq!(decode(&objects), Err(Error::TooDeep(16 * 4)));
    let sixteen = [0x0a, 0, 0, 0, 1].repeat(16);
    assert!(decode(&sixteen).is_ok());
}

#[test]
fn amf3_switch_keeps_what_came_before() {
    let bytes = [&ONE[..], &[0x11, 0xff, 0xff, 0x77]].concat();
    assert_eq!(decode(&bytes).unwrap(), [number(1.0), Amf0Value::Undefined]);
    let inside = [&[3][..], &pair("a", &ONE), &pair("b", &[0x11, 0xff])].concat();
    let expected = object([("a", number(1.0)), ("b", Amf0Value::Undefined)]);
    assert_eq!(decode(&inside).unwrap(), [expected]);
}

#[test]
fn unknown_marker_names_its_place() {
    let bytes = [&ONE[..], &[0x42]].concat();
    let refusal = Error::UnknownMarker {
        marker: 0x42,
        at: 9,
    };
    assert_eq!(decode(&bytes), Err(refusal));
}

#[test]
fn data_over_the_limit_is_refused() {
    let length = MAX_OTHER_MESSAGE + 1;
    assert_eq!(decode(&vec![5; length]), Err(Error::TooLong(length)));
}

#[test]
fn strings_that_are_not_utf8_are_kept_readable() {
    assert_eq!(
        decode(&[2, 0, 2, b'a', 0xe9]).unwrap(),
        [string("a\u{fffd}")]
    );
}

#[test]
fn short_commands_are_filled_in() {
    let only_name = encode(&[string("ping")]).unwrap();
    let command = Command::decode(&only_name).unwrap();
    assert_eq!((command.name.as_str(), command.transaction), ("ping", 0.0));
    assert_eq!(command.object, Amf0Value::Null);
    assert_eq!(command.string(0), None);
    assert_eq!(Command::decode(&[]), Err(Error::NoCommandName("nothing")));
    assert_eq!(Command::decode(&ONE), Err(Error::NoCommandName("a number")));
    let nan = encode(&[string("x"), number(f64::NAN)]).unwrap();
    assert_eq!(Command::decode(&nan).unwrap().transaction, 0.0);
}

#[test]
fn amf3_prefix_is_stripped_if_there() {
    let plain = encode(&[string("connect")]).unwrap();
    let prefixed = Bytes::from([&[0][..], &plain].concat());
    assert_eq!(strip_amf3_prefix(&prefixed), plain);
    assert_eq!(strip_amf3_prefix(&plain), plain);
    assert!(strip_amf3_prefix(&Bytes::new()).is_empty());
}

#[test]
fn string_too_long_to_write() {
    assert!(matches!(
        encode(&[string("x".repeat(70_000))]),
        Err(Error::Encode(_))
    ));
}

fn any_value() -> impl Strategy<Value = Amf0Value> {
    let leaf = prop_oneof![
        (-1e9..1e9).prop_map(Amf0Value::Number),
        any::<bool>().prop_map(Amf0Value::Boolean),
        ".{0,20}".prop_map(Amf0Value::Utf8String),
        Just(Amf0Value::Null),
        Just(Amf0Value::Undefined),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Amf0Value::StrictArray),
            prop::collection::hash_map(".{1,8}", inner, 0..6).prop_map(Amf0Value::Object),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(values in prop::collection::vec(any_value(), 0..6)) {
        prop_assert_eq!(decode(&encode(&values).unwrap()).unwrap(), values);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(prop_oneof![0..0x12_u8, any::<u8>()], 0..600)) {
        let _ = decode(&bytes);
        let _ = Command::decode(&bytes);
    }
}
