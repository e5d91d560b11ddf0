//! A writer of RTMP chunks and commands that shares no code with the server's.

/// One message: a type-0 header, then type-3 chunks.
pub fn message(
    out: &mut Vec<u8>,
    chunk_stream: u8,
    (kind, stream_id, time): (u8, u32, u32),
    payload: &[u8],
    chunk_size: usize,
) {
    let chunk_stream = chunk_stream.clamp(2, 63);
    let extended = time >= 0xff_ffff;
    out.push(chunk_stream);
    out.extend(&time.min(0xff_ffff).to_be_bytes()[1..]);
    out.extend(&(payload.len() as u32).to_be_bytes()[1..]);
    out.push(kind);
    out.extend(stream_id.to_le_bytes());
    for (index, chunk) in payload.chunks(chunk_size.max(1)).enumerate() {
        if index > 0 {
            out.push(0xc0 | chunk_stream);
        }
        if extended {
            out.extend(time.to_be_bytes());
        }
        out.extend(chunk);
    }
}

/// A command with a transaction number, null for its object, and strings.
pub fn command(name: &str, transaction: u8, arguments: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    string(&mut out, name);
    number(&mut out, transaction.into());
    out.push(5);
    for argument in arguments {
        string(&mut out, argument);
    }
    out
}

/// `connect` with these properties.
pub fn connect(properties: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    string(&mut out, "connect");
    number(&mut out, 1.0);
    out.push(3);
    for (key, value) in properties {
        out.extend((key.len() as u16).to_be_bytes());
        out.extend(key.as_bytes());
        string(&mut out, value);
    }
    out.extend([0, 0, 9]);
    out
}

/// `onStatus`.
pub fn status(level: &str, code: &str, description: &str) -> Vec<u8> {
    let mut out = command("onStatus", 0, &[]);
    out.push(3);
    for (key, value) in [
        ("level", level),
        ("code", code),
        ("description", description),
    ] {
        out.extend((key.len() as u16).to_be_bytes());
        out.extend(key.as_bytes());
        string(&mut out, value);
    }
    out.extend([0, 0, 9]);
    out
}

/// What a server answers to a client that publishes, all at once.
pub fn welcome() -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, 3, (20, 0, 0), &command("_result", 1, &[]), 128);
    let mut created = command("_result", 4, &[]);
    number(&mut created, 1.0);
    message(&mut out, 3, (20, 0, 0), &created, 128);
    let status = status("status", "NetStream.Publish.Start", "");
    message(&mut out, 5, (20, 1, 0), &status, 128);
    out
}

/// What a publisher sends up to its first media, for stream 1.
pub fn until_publish(app: &str, name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let url = format!("rtmp://localhost/{app}");
    let connect = connect(&[("app", app), ("tcUrl", &url)]);
    message(&mut out, 3, (20, 0, 0), &connect, 128);
    message(
        &mut out,
        3,
        (20, 0, 0),
        &command("createStream", 2, &[]),
        128,
    );
    let publish = command("publish", 3, &[name, "live"]);
    message(&mut out, 3, (20, 1, 0), &publish, 128);
    out
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.push(2);
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}

fn number(out: &mut Vec<u8>, value: f64) {
    out.push(0);
    out.extend(value.to_be_bytes());
}
