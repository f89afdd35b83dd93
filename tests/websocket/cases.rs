//! One table per category of the Autobahn suite, under its number there.

use super::{MAX_BYTES, MAX_FRAGMENTS, Seen, frame, masked_frame, read_every_way};

const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = FIN | 0x8;
const PING: u8 = FIN | 0x9;
const PONG: u8 = FIN | 0xa;

const PROTOCOL_ERROR: Seen = Seen::Refused(1002);

fn text(payload: &[u8]) -> Seen {
    Seen::Text(payload.to_vec())
}

fn binary(payload: &[u8]) -> Seen {
    Seen::Binary(payload.to_vec())
}

fn ping(payload: &[u8]) -> Seen {
    Seen::Ping(payload.to_vec())
}

fn check(name: &str, frames: &[Vec<u8>], expected: &[Seen]) {
    let seen = read_every_way(name, &frames.concat());
    let brief = |seen: &[Seen]| seen.iter().map(Seen::brief).collect::<Vec<_>>();
    assert!(seen == expected, "{name}: {:#?} instead of {:#?}", brief(&seen), brief(expected));
}

fn close_payload(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), reason].concat()
}

/// Cuts a message into frames of up to `len` bytes.
fn fragments(opcode: u8, payload: &[u8], len: usize) -> Vec<Vec<u8>> {
    let count = payload.len().div_ceil(len);
    let pieces = payload.chunks(len).enumerate();
    pieces
        .map(|(n, piece)| {
            let fin = if n + 1 == count { FIN } else { 0 };
            frame(fin | if n == 0 { opcode } else { CONTINUATION }, piece)
        })
        .collect()
}

#[test]
fn category_1_messages_of_every_form_of_length_are_read() {
    for len in [0, 125, 126, 127, 128, 65_535, 65_536] {
        let payload = vec![b'*'; len];
        check(&format!("text of {len}"), &[frame(FIN | TEXT, &payload)], &[text(&payload)]);
        let payload = vec![0xfe; len];
        let message = frame(FIN | BINARY, &payload);
        check(&format!("binary of {len}"), std::slice::from_ref(&message), &[binary(&payload)]);
        check(&format!("binary of {len}, twice"), &[message.clone(), message], &[binary(&payload), binary(&payload)]);
    }
}

/// RFC 6455, 5.2 asks senders for the shortest form; refusing another one would gain nothing.
#[test]
fn category_1_a_length_in_a_longer_form_than_needed_is_read() {
    for length in [&[0xfe, 0, 2][..], &[0xff, 0, 0, 0, 0, 0, 0, 0, 2]] {
        let frame = [&[FIN | BINARY], length, &[0; 4], b"ab"].concat();
        check("length in a longer form", &[frame], &[binary(b"ab")]);
    }
    let highest_bit = [&[FIN | BINARY, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 2], &[0; 4][..], b"ab"].concat();
    check("a length of 64 bits", &[highest_bit], &[PROTOCOL_ERROR]);
}

#[test]
fn category_1_each_mask_is_undone_and_none_is_refused() {
    for mask in [[0; 4], [0xff; 4], [1, 2, 3, 4], [0x80, 0, 0, 0]] {
        let payload: Vec<u8> = (0..=255).collect();
        check(&format!("mask {mask:x?}"), &[masked_frame(FIN | BINARY, Some(mask), &payload)], &[binary(&payload)]);
    }
    check("no mask", &[masked_frame(FIN | BINARY, None, b"ab")], &[PROTOCOL_ERROR]);
    check("no mask, no payload", &[masked_frame(PING, None, b"")], &[PROTOCOL_ERROR]);
}

#[test]
fn category_2_pings_come_out_with_their_payload_and_pongs_need_no_ping() {
    for payload in [&b""[..], b"Hello, world!", &[0, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0], &[0xfe; 125]] {
        check("one ping", &[frame(PING, payload)], &[ping(payload)]);
    }
    check("a ping of 126 bytes", &[frame(PING, &[0xfe; 126])], &[PROTOCOL_ERROR]);
    check("a pong of 126 bytes", &[frame(PONG, &[0xfe; 126])], &[PROTOCOL_ERROR]);
    check(
        "pongs that nobody asked for, then a ping",
        &[frame(PONG, b""), frame(PONG, b"unsolicited"), frame(PING, b"?")],
        &[Seen::Pong, Seen::Pong, ping(b"?")],
    );
    let payloads: Vec<_> = (0..10).map(|n| format!("payload-{n}").into_bytes()).collect();
    let frames: Vec<_> = payloads.iter().map(|payload| frame(PING, payload)).collect();
    let pings: Vec<_> = payloads.iter().map(|payload| ping(payload)).collect();
    check("ten pings", &frames, &pings);
}

#[test]
fn category_3_a_frame_with_any_reserved_bit_is_refused_and_what_came_before_it_is_not() {
    let hello = frame(FIN | TEXT, b"Hello");
    for reserved in (1..8).map(|bits| bits << 4) {
        for opcode in [FIN | TEXT, BINARY, PING, PONG, CLOSE] {
            check(
                &format!("first byte {:x}", opcode | reserved),
                &[hello.clone(), frame(opcode | reserved, b""), hello.clone()],
                &[text(b"Hello"), PROTOCOL_ERROR],
            );
        }
    }
}

#[test]
fn category_4_reserved_opcodes_are_refused_with_and_without_payload() {
    let hello = frame(FIN | TEXT, b"Hello");
    for opcode in (3..8).chain(11..16) {
        for payload in [&b""[..], b"reserved opcode payload"] {
            check(
                &format!("opcode {opcode}"),
                &[hello.clone(), frame(FIN | opcode, payload), frame(PING, b"")],
                &[text(b"Hello"), PROTOCOL_ERROR],
            );
        }
    }
}

#[test]
fn category_5_fragments_are_joined_with_control_frames_between_them() {
    let parts = [frame(TEXT, b"fragment1"), frame(CONTINUATION | FIN, b"fragment2")];
    let [first, last] = &parts;
    check("two fragments", &parts, &[text(b"fragment1fragment2")]);
    check(
        "a ping between",
        &[first.clone(), frame(PING, b"?"), last.clone()],
        &[ping(b"?"), text(b"fragment1fragment2")],
    );
    let middle = frame(CONTINUATION, b"-");
    check(
        "five fragments, pings and pongs between",
        &[
            first.clone(),
            frame(PING, b"1"),
            middle.clone(),
            middle.clone(),
            frame(PONG, b""),
            frame(PING, b"2"),
            middle,
            last.clone(),
            frame(FIN | BINARY, b"next"),
        ],
        &[ping(b"1"), Seen::Pong, ping(b"2"), text(b"fragment1---fragment2"), binary(b"next")],
    );
    check("a close between", &[first.clone(), frame(CLOSE, b""), last.clone()], &[Seen::Close(None)]);
    for payloads in [[&b""[..], b"", b""], [b"", b"middle", b""], [b"a", b"", b"c"]] {
        let [a, b, c] = payloads
            .map(|payload| (frame(BINARY, payload), payload))
            .map(|(first, payload)| (first, frame(CONTINUATION, payload), frame(FIN | CONTINUATION, payload)));
        check("empty fragments", &[a.0, b.1, c.2], &[binary(&payloads.concat())]);
    }
}

#[test]
fn category_5_frames_out_of_order_are_refused() {
    check("a ping in two", &[frame(PING ^ FIN, b"1"), frame(FIN | CONTINUATION, b"2")], &[PROTOCOL_ERROR]);
    check("a pong in two", &[frame(PONG ^ FIN, b"1"), frame(FIN | CONTINUATION, b"2")], &[PROTOCOL_ERROR]);
    let hello = frame(FIN | TEXT, b"Hello");
    for first in [CONTINUATION, FIN | CONTINUATION] {
        let frames = [frame(first, b"of nothing"), hello.clone()];
        check("a continuation of nothing", &frames, &[PROTOCOL_ERROR]);
        let frames = [hello.clone(), frame(first, b"of nothing")];
        check("a continuation behind a message", &frames, &[text(b"Hello"), PROTOCOL_ERROR]);
        let frames = [frame(BINARY, b"a"), frame(FIN | CONTINUATION, b"b"), frame(first, b"of nothing")];
        check("a continuation behind the last", &frames, &[binary(b"ab"), PROTOCOL_ERROR]);
    }
    for second in [TEXT, BINARY, FIN | TEXT, FIN | BINARY] {
        check("a message inside another", &[frame(TEXT, b"1"), frame(second, b"2")], &[PROTOCOL_ERROR]);
        check("a message inside an empty one", &[frame(TEXT, b""), frame(second, b"")], &[PROTOCOL_ERROR]);
    }
}

/// The caller checks UTF-8, so text comes out as it came in.
#[test]
fn category_6_text_is_handed_over_unchanged_wherever_it_is_cut() {
    let greek = "Hello-\u{b5}@\u{df}\u{f6}\u{e4}\u{fc}\u{e0}\u{e1}-UTF-8!!\u{3ba}\u{1f697}".as_bytes();
    check("one frame", &[frame(FIN | TEXT, greek)], &[text(greek)]);
    for len in 1..5 {
        check(&format!("fragments of {len}"), &fragments(TEXT, greek, len), &[text(greek)]);
    }
    let invalid = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited";
    check("not UTF-8", &[frame(FIN | TEXT, invalid)], &[text(invalid)]);
    check("not UTF-8, cut", &fragments(TEXT, invalid, 3), &[text(invalid)]);
}

#[test]
fn category_7_a_well_formed_close_is_read_with_its_code() {
    check("no code", &[frame(FIN | TEXT, b"Hello"), frame(CLOSE, b"")], &[text(b"Hello"), Seen::Close(None)]);
    let codes = (1000..=1003).chain(1007..=1014).chain([3000, 3999, 4000, 4999]);
    for code in codes {
        let longest = [b'*'; 123];
        for reason in [&b""[..], b"Hello World!", "\u{3ba}\u{1f697}".as_bytes(), &longest] {
            check(&format!("code {code}"), &[frame(CLOSE, &close_payload(code, reason))], &[Seen::Close(Some(code))]);
        }
    }
}

#[test]
fn category_7_a_malformed_close_is_refused() {
    check("one byte", &[frame(CLOSE, b"a")], &[PROTOCOL_ERROR]);
    check("a reason of 124", &[frame(CLOSE, &close_payload(1000, &[b'*'; 124]))], &[PROTOCOL_ERROR]);
    check("in two frames", &[frame(CLOSE ^ FIN, b""), frame(FIN | CONTINUATION, b"")], &[PROTOCOL_ERROR]);
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        for reason in [&b""[..], b"reason", b"\xff"] {
            check(&format!("code {code}"), &[frame(CLOSE, &close_payload(code, reason))], &[PROTOCOL_ERROR]);
        }
    }
    for reason in [&b"\xff"[..], b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf", b"cut \xce"] {
        check("a reason not in UTF-8", &[frame(CLOSE, &close_payload(1000, reason))], &[Seen::Refused(1007)]);
    }
}

#[test]
fn category_9_messages_up_to_the_limits_are_read_and_beyond_them_refused() {
    let longest = vec![0xab; MAX_BYTES];
    check("the longest", &[frame(FIN | BINARY, &longest)], &[binary(&longest)]);
    check("the longest, in 64ths", &fragments(BINARY, &longest, MAX_BYTES / 64), &[binary(&longest)]);
    check("one byte more", &[frame(FIN | BINARY, &[&longest[..], b"a"].concat())], &[Seen::Refused(1009)]);
    let most = vec![b'*'; MAX_FRAGMENTS];
    check("the most fragments", &fragments(TEXT, &most, 1), &[text(&most)]);
    let over = vec![b'*'; MAX_FRAGMENTS + 1];
    check("a fragment more", &fragments(TEXT, &over, 1), &[Seen::Refused(1008)]);
}

#[test]
fn category_10_an_automatically_fragmented_message_is_joined() {
    let payload: Vec<u8> = (0..65_536_u32).map(|n| n.to_le_bytes()[0]).collect();
    for len in [1_300, 1_024, 997, 65_535] {
        check(&format!("frames of {len}"), &fragments(BINARY, &payload, len), &[binary(&payload)]);
        check(&format!("frames of {len}, text"), &fragments(TEXT, &payload, len), &[text(&payload)]);
    }
}
