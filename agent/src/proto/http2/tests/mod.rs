//! HTTP/2 from records to exchanges.

mod properties;
mod wire;

use sonde_abi::LifeEvent;

use self::wire::*;
use crate::conn::{Direction, Role};
use crate::proto::{Event, Milestone};

/// A message of gRPC.
fn message(length: usize) -> Vec<u8> {
    [&[0][..], &(length as u32).to_be_bytes(), &vec![b'm'; length]].concat()
}

#[test]
fn streams_interleaved() {
    let told = told(|wire| {
        wire.open();
        let [one, three] = [wire.request(1, END_STREAM, "GET", "/a"), wire.request(3, 0, "POST", "/b?x=1")];
        wire.send(CLIENT, &[one, three, frame(DATA, 0, 3, b"hello")].concat());
        let answer = wire.response(3, 0, "201");
        wire.send(SERVER, &answer);
        wire.send(CLIENT, &frame(DATA, END_STREAM, 3, b" world"));
        let five = wire.request(5, END_STREAM, "GET", "/a");
        wire.send(CLIENT, &five);
        let [one, five] = [wire.response(1, 0, "200"), wire.response(5, END_STREAM, "304")];
        wire.send(SERVER, &[one, five, frame(DATA, 0, 1, &[b'x'; 5000]), frame(DATA, 0, 3, b"ok")].concat());
        wire.send(
            SERVER,
            &[frame(DATA, END_STREAM, 3, b""), frame(DATA, END_STREAM, 1, &[b'y'; 3000])].concat(),
        );
    });
    assert_eq!(told, "GET /a 304 | 0 | 0\nPOST /b?x=1 201 | 11 | 2\nGET /a 200 | 0 | 8000\n");
}

#[test]
fn blocks_in_many_frames_with_padding_and_priority() {
    let told = told(|wire| {
        wire.open();
        let block = wire.block(
            CLIENT,
            &[(":method", "GET"), (":scheme", "http"), (":path", "/long"), ("x-long", &"v".repeat(3000))],
        );
        let (first, rest) = block.split_at(20);
        let (second, third) = rest.split_at(1000);
        let padded = [&[3][..], &[0, 0, 0, 0, 16], first, &[0; 3]].concat();
        wire.send(CLIENT, &frame(HEADERS, END_STREAM | PADDED | PRIORITY, 1, &padded));
        wire.send(CLIENT, &frame(CONTINUATION, 0, 1, second));
        wire.send(CLIENT, &frame(CONTINUATION, END_HEADERS, 1, third));
        // What the table took from that block is used again.
        let next = wire.request(3, END_STREAM, "GET", "/long");
        wire.send(CLIENT, &next);
        let promise = wire.block(SERVER, &[(":method", "GET"), (":path", "/style.css"), ("server", "s")]);
        wire.send(SERVER, &frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &promise].concat()));
        let answer = wire.response(1, 0, "200");
        wire.send(SERVER, &answer);
        let pushed = wire.response(2, END_STREAM, "200");
        wire.send(SERVER, &[pushed, frame(DATA, PADDED | END_STREAM, 1, b"\x04body\0\0\0\0")].concat());
        let answer = wire.response(3, END_STREAM, "204");
        wire.send(SERVER, &answer);
    });
    assert_eq!(told, "GET /long 200 | 0 | 4\nGET /long 204 | 0 | 0\n");
}

#[test]
fn interim_responses_and_trailers() {
    let told = told(|wire| {
        wire.open();
        let request = wire.request(1, 0, "PUT", "/x");
        wire.send(CLIENT, &request);
        let interim = wire.headers(SERVER, 1, 0, &[(":status", "100")]);
        wire.send(SERVER, &interim);
        let trailers = wire.headers(CLIENT, 1, END_STREAM, &[("x-sum", "1")]);
        wire.send(CLIENT, &[frame(DATA, 0, 1, b"abc"), trailers].concat());
        let hints = wire.headers(SERVER, 1, 0, &[(":status", "103"), ("link", "</x>")]);
        let answer = wire.response(1, 0, "200");
        let trailers = wire.headers(SERVER, 1, END_STREAM, &[("x-sum", "2")]);
        wire.send(SERVER, &[hints, answer, frame(DATA, 0, 1, b"defg"), trailers].concat());
    });
    assert_eq!(told, "PUT /x 200 | 3 | 4\n");
}

#[test]
fn statuses_that_are_none() {
    let told = told(|wire| {
        wire.open();
        for (stream, status) in [(1, ""), (3, "20"), (5, "2000000000000000000"), (7, "abc")] {
            let request = wire.request(stream, END_STREAM, "GET", "/");
            wire.send(CLIENT, &request);
            let answer = wire.headers(SERVER, stream, END_STREAM, &[(":status", status)]);
            wire.send(SERVER, &answer);
        }
    });
    assert_eq!(told, "GET / - | 0 | 0\n".repeat(4));
}

#[test]
fn calls_of_grpc() {
    let told = told(|wire| {
        wire.open();
        // Unary.
        let request = wire.grpc_request(1, "/shop.Cart/Add", &[("grpc-timeout", "1S")]);
        wire.send(CLIENT, &[request, frame(DATA, END_STREAM, 1, &message(10))].concat());
        let answer = wire.headers(SERVER, 1, 0, &[(":status", "200"), ("content-type", "application/grpc")]);
        let trailers = wire.headers(SERVER, 1, END_STREAM, &[("grpc-status", "0")]);
        wire.send(SERVER, &[answer, frame(DATA, 0, 1, &message(7)), trailers].concat());
        // Trailers only.
        let request = wire.grpc_request(3, "/shop.Cart/Drop", &[]);
        wire.send(CLIENT, &[request, frame(DATA, END_STREAM, 3, &message(0))].concat());
        let fields = [
            (":status", "200"),
            ("content-type", "application/grpc"),
            ("grpc-status", "5"),
            ("grpc-message", "no%20cart"),
        ];
        let answer = wire.headers(SERVER, 3, END_STREAM, &fields);
        wire.send(SERVER, &answer);
        // Both ways, messages across frames.
        let request = wire.grpc_request(5, "/shop.Cart/Watch", &[]);
        wire.send(CLIENT, &request);
        let answer = wire.headers(SERVER, 5, 0, &[(":status", "200"), ("content-type", "application/grpc")]);
        wire.send(SERVER, &answer);
        for turn in 0..3 {
            let [first, second] = [message(6000), message(turn)];
            let bytes = [first, second].concat();
            wire.send(CLIENT, &frame(DATA, 0, 5, &bytes[..4000]));
            wire.send(CLIENT, &frame(DATA, 0, 5, &bytes[4000..]));
            wire.send(SERVER, &frame(DATA, 0, 5, &message(2)));
        }
        wire.send(CLIENT, &frame(DATA, END_STREAM, 5, b""));
        let trailers = wire.headers(SERVER, 5, END_STREAM, &[("grpc-status", "0")]);
        wire.send(SERVER, &trailers);
    });
    let expected = "POST /shop.Cart/Add 200 | 15 | 12 | grpc 0 1/10 1/7\n\
                    POST /shop.Cart/Drop 200 | 5 | 0 | grpc 5 1/0 0/0 \"no cart\"\n\
                    POST /shop.Cart/Watch 200 | 18033 | 21 | grpc 0 6/18003 3/6\n";
    assert_eq!(told, expected);
}

#[test]
fn answered_before_the_request_ended() {
    let told = told(|wire| {
        wire.open();
        let request = wire.grpc_request(1, "/shop.Cart/Watch", &[]);
        wire.send(
            CLIENT,
            &[request, frame(DATA, 0, 1, &message(10)), frame(DATA, 0, 1, &message(4))].concat(),
        );
        let answer = wire.headers(SERVER, 1, 0, &[(":status", "200"), ("content-type", "application/grpc")]);
        let trailers = wire.headers(SERVER, 1, END_STREAM, &[("grpc-status", "0")]);
        wire.send(SERVER, &[answer, frame(DATA, 0, 1, &message(7)), trailers].concat());
        // The client does not end it in time: what it sent until then is known all the same.
        wire.end.now += 200_000_000;
        wire.send(CLIENT, &frame(SETTINGS, 0, 0, &[]));
        wire.send(CLIENT, &frame(DATA, END_STREAM, 1, &message(1)));
    });
    assert_eq!(told, "POST /shop.Cart/Watch 200 | ? | 12 | grpc 0 2/14 1/7\n");
}

#[test]
fn given_up() {
    let told = told(|wire| {
        wire.open();
        for (stream, timeout) in [(1, "5S"), (3, "100m"), (5, "5S")] {
            let request = wire.grpc_request(stream, &format!("/a.B/C{stream}"), &[("grpc-timeout", timeout)]);
            wire.send(CLIENT, &request);
        }
        wire.send(CLIENT, &frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]));
        wire.end.now += 100_000_000;
        wire.send(CLIENT, &frame(RST_STREAM, 0, 3, &[0, 0, 0, 8]));
        wire.send(SERVER, &frame(RST_STREAM, 0, 5, &[0, 0, 0, 7]));
        let [seven, nine] = [wire.request(7, END_STREAM, "GET", "/7"), wire.request(9, 0, "POST", "/9")];
        wire.send(CLIENT, &[seven, nine].concat());
        wire.send(SERVER, &frame(RST_STREAM, 0, 7, &[0, 0, 0, 2]));
        // An answer that needs no more of the request.
        let answer = wire.response(9, END_STREAM, "413");
        wire.send(SERVER, &[answer, frame(RST_STREAM, 0, 9, &[0, 0, 0, 0])].concat());
    });
    let expected = "POST /a.B/C1 - | 0 | none | grpc 1 0/0 0/0 | Stream(8)\n\
                    POST /a.B/C3 - | 0 | none | grpc 4 0/0 0/0 | Stream(8)\n\
                    POST /a.B/C5 - | 0 | none | grpc 14 0/0 0/0 | Stream(7)\n\
                    GET /7 - | 0 | none | Stream(2)\n\
                    POST /9 413 | 0 | 0\n";
    assert_eq!(told, expected);
}

#[test]
fn whole_without_its_end() {
    let told = told(|wire| {
        wire.open();
        for (stream, method) in [(1, "GET"), (3, "GET"), (5, "HEAD")] {
            let request = wire.request(stream, END_STREAM, method, &format!("/{stream}"));
            wire.send(CLIENT, &request);
            let answer = wire.headers(SERVER, stream, 0, &[(":status", "200"), ("content-length", "4")]);
            wire.send(SERVER, &answer);
        }
        // Reset when all that was announced is there, and when it is not.
        wire.send(SERVER, &[frame(DATA, 0, 1, b"four"), frame(DATA, 0, 3, b"two")].concat());
        wire.send(CLIENT, &[1, 3, 5].map(|id| frame(RST_STREAM, 0, id, &[0, 0, 0, 5])).concat());
    });
    let expected = "GET /1 200 | 0 | 4\n\
                    GET /3 200 | 0 | 3 | Stream(5)\n\
                    HEAD /5 200 | 0 | 0\n";
    assert_eq!(told, expected);
}

#[test]
fn connections_that_end() {
    let told = told(|wire| {
        wire.open();
        let [one, three] =
            [wire.request(1, END_STREAM, "GET", "/1"), wire.request(3, END_STREAM, "GET", "/3")];
        wire.send(CLIENT, &[one, three].concat());
        let answer = wire.response(1, 0, "200");
        // The last stream that the server looked at is the first.
        wire.send(SERVER, &[answer, frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])].concat());
        wire.send(SERVER, &frame(DATA, 0, 1, b"part"));
        wire.end.close();
    });
    assert_eq!(told, "GET /3 - | 0 | none | Stream(7)\nGET /1 200 | 0 | 4 | Closed\n");
    let told = wire::told(|wire| {
        wire.open();
        let one = wire.request(1, END_STREAM, "GET", "/1");
        wire.send(CLIENT, &one);
        wire.send(SERVER, &frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 11]));
        wire.end.life(LifeEvent::Closed, 104);
    });
    assert_eq!(told, "GET /1 - | 0 | none | Stream(11)\n");
}

#[test]
fn upgraded_from_http1() {
    let told = told(|wire| {
        wire.send(CLIENT, b"GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n\r\n");
        let answer = wire.response(1, 0, "200");
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
        wire.send(SERVER, &[&switch[..], &frame(SETTINGS, 0, 0, &[]), &answer].concat());
        wire.open();
        wire.send(SERVER, &frame(DATA, END_STREAM, 1, b"hello"));
        let three = wire.request(3, END_STREAM, "GET", "/next");
        wire.send(CLIENT, &three);
        let answer = wire.response(3, END_STREAM, "404");
        wire.send(SERVER, &answer);
    });
    assert_eq!(told, "GET /up 200 | 0 | 5\nGET /next 404 | 0 | 0\n");
}

/// A server may say its settings before it has read anything.
#[test]
fn the_server_speaks_first() {
    let told = told(|wire| {
        wire.send(SERVER, &frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]));
        let request = wire.request(1, END_STREAM, "GET", "/");
        wire.send(CLIENT, &super::PREFACE[..10]);
        wire.send(CLIENT, &[&super::PREFACE[10..], &frame(SETTINGS, 0, 0, &[]), &request].concat());
        let answer = wire.response(1, END_STREAM, "200");
        wire.send(SERVER, &[frame(SETTINGS, 1, 0, &[]), answer].concat());
    });
    assert_eq!(told, "GET / 200 | 0 | 0\n");
}

#[test]
fn bytes_of_bodies_need_not_be_seen() {
    let told = told(|wire| {
        wire.open();
        let request = wire.request(1, 0, "POST", "/up");
        let all = [request.clone(), frame(DATA, 0, 1, &[b'x'; 9000])].concat();
        wire.send_cut(CLIENT, &all, request.len() + 50);
        // Lost, but for the last bytes of the frame.
        wire.send(CLIENT, &frame(DATA, 0, 1, &[b'x'; 9000])[..9]);
        wire.lose(CLIENT, 8000);
        wire.send(CLIENT, &[vec![b'x'; 1000], frame(DATA, END_STREAM, 1, b"")].concat());
        let answer = wire.response(1, END_STREAM, "200");
        wire.send(SERVER, &answer);
    });
    assert_eq!(told, "POST /up 200 | 18000 | 0\nlost reassembly 1\n");
}

#[test]
fn a_lost_block_leaves_no_wrong_header() {
    let told = told(|wire| {
        wire.open();
        let one = wire.request(1, END_STREAM, "GET", "/one");
        wire.send(CLIENT, &one);
        // The end of the next block is not captured: its path is, and what it left in the table is not known.
        let three = wire.headers(
            CLIENT,
            3,
            END_STREAM,
            &[(":method", "GET"), (":scheme", "http"), (":path", "/three"), ("x-a", "1"), ("x-b", "2")],
        );
        wire.send_cut(CLIENT, &three, three.len() - 4);
        let [five, seven] =
            [wire.request(5, END_STREAM, "GET", "/one"), wire.request(7, END_STREAM, "GET", "/7")];
        wire.send(CLIENT, &[five, seven].concat());
        for stream in [1, 3, 5, 7] {
            let answer = wire.response(stream, END_STREAM, "200");
            wire.send(SERVER, &answer);
        }
    });
    let expected = "GET /one 200 | 0 | 0\n\
                    GET /three 200 | 0 | 0 | Gap\n\
                    GET ? 200 | 0 | 0 | Gap\n\
                    GET /7 200 | 0 | 0 | Gap\n\
                    lost desync 1\n";
    assert_eq!(told, expected);
}

#[test]
fn lost_frames_are_found_again() {
    let told = told(|wire| {
        wire.open();
        let [one, three] =
            [wire.request(1, END_STREAM, "GET", "/1"), wire.request(3, END_STREAM, "GET", "/3")];
        wire.send(CLIENT, &[one, three].concat());
        let first = wire.response(1, 0, "200");
        let all = [first, frame(DATA, END_STREAM, 1, b"seen by nobody")].concat();
        wire.lose(SERVER, all.len());
        // In the middle of a frame, then three of them.
        let answer = wire.response(3, 0, "200");
        let found = [
            &b"rest of something"[..],
            &answer,
            &frame(DATA, 0, 3, b"abc"),
            &frame(DATA, END_STREAM, 3, b""),
        ];
        wire.send(SERVER, &found.concat());
        wire.end.now += 31_000_000_000;
        let five = wire.request(5, END_STREAM, "GET", "/5");
        wire.send(CLIENT, &five);
        let answer = wire.response(5, END_STREAM, "200");
        wire.send(SERVER, &answer);
    });
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines[0], "GET /3 200 | 0 | ? | Gap", "{told}");
    assert_eq!(lines[1], "GET /1 - | 0 | none | Gap");
    assert_eq!(lines[2], "GET /5 200 | 0 | 0 | Gap");
}

#[test]
fn joined_late() {
    let told = told(|wire| {
        // All this was before.
        let [first, one] = [wire.request(1, END_STREAM, "GET", "/1"), wire.response(1, END_STREAM, "200")];
        let old = wire.request(3, END_STREAM, "GET", "/old");
        wire.end.flags |= sonde_abi::record::flags::LATE;
        wire.end.positions = [70_000 + (first.len() + old.len()) as u64, 80_000 + one.len() as u64];
        // The answer to a request of before; then requests, one of which names what nobody saw.
        let answer = wire.response(3, END_STREAM, "200");
        wire.send(SERVER, &answer);
        let [five, seven] =
            [wire.request(5, END_STREAM, "GET", "/1"), wire.request(7, END_STREAM, "GET", "/new")];
        wire.send(CLIENT, &five);
        wire.send(CLIENT, &seven);
        let nine = wire.request(9, END_STREAM, "GET", "/new");
        wire.send(CLIENT, &nine);
        for stream in [5, 7, 9] {
            let answer = wire.response(stream, END_STREAM, "200");
            wire.send(SERVER, &answer);
        }
    });
    let expected =
        "GET ? 200 | 0 | 0 | Joined\nGET /new 200 | 0 | 0 | Joined\nGET /new 200 | 0 | 0 | Joined\n";
    assert_eq!(told, expected);
}

#[test]
fn joined_late_by_a_request() {
    let told = |skipped: &[u8]| {
        told(|wire| {
            let first = wire.request(1, END_STREAM, "GET", "/1");
            wire.end.flags |= sonde_abi::record::flags::LATE;
            wire.end.positions = [70_000 + first.len() as u64, 80_000];
            let three = wire.request(3, END_STREAM, "GET", "/3");
            wire.send(CLIENT, &three);
            // The first bytes of the other direction: nothing of it went by since the request, unless this is no frame.
            if !skipped.is_empty() {
                wire.send(SERVER, skipped);
            }
            let answer = wire.response(3, 0, "200");
            wire.send(SERVER, &answer);
            wire.send(SERVER, &frame(DATA, END_STREAM, 3, b"three"));
        })
    };
    assert_eq!(told(b""), "GET /3 200 | 0 | 5 | Joined\n");
    assert_eq!(told(b"the end of a frame"), "GET /3 200 | 0 | ? | Gap\n");
}

/// Go's server reads each frame by two calls.
#[test]
fn joined_late_where_headers_come_alone() {
    let told = told(|wire| {
        let first = wire.request(1, 0, "POST", "/1");
        wire.end.flags |= sonde_abi::record::flags::LATE;
        wire.end.positions = [70_000 + first.len() as u64, 80_000];
        let content = frame(DATA, END_STREAM, 1, b"what was under way");
        let requests = [3, 5].map(|stream| wire.request(stream, END_STREAM, "GET", &format!("/{stream}")));
        for bytes in [&content, &requests[0], &requests[1]] {
            let (header, payload) = bytes.split_at(9);
            wire.send(CLIENT, header);
            wire.send(CLIENT, payload);
        }
        for stream in [1, 3, 5] {
            let answer = wire.response(stream, END_STREAM, "200");
            wire.send(SERVER, &answer);
        }
    });
    assert_eq!(told, "GET /3 200 | 0 | 0 | Joined\nGET /5 200 | 0 | 0 | Joined\n");
}

/// A reader's buffer may have room for part of a frame only.
#[test]
fn joined_late_where_a_frame_comes_in_pieces() {
    let of = |client: bool, first: usize, second: usize| {
        told(|wire| {
            let before = wire.request(1, 0, "POST", "/1");
            wire.end.flags |= sonde_abi::record::flags::LATE;
            wire.end.positions = [70_000 + before.len() as u64, 80_000];
            let three = wire.request(3, END_STREAM, "GET", "/three");
            let four = wire.response(1, END_STREAM, "200");
            let (from, bytes) = if client { (CLIENT, &three) } else { (SERVER, &four) };
            if !client {
                wire.send(CLIENT, &three);
            }
            let (one, rest) = bytes.split_at(first.min(bytes.len()));
            let (two, three) = rest.split_at(second.min(rest.len()));
            for piece in [one, two, three] {
                if !piece.is_empty() {
                    wire.send(from, piece);
                }
            }
            let answer = wire.response(3, END_STREAM, "201");
            wire.send(SERVER, &answer);
        })
    };
    for client in [true, false] {
        for first in 1..20 {
            for second in [1, 5, 9, 100] {
                let told = of(client, first, second);
                assert_eq!(told, "GET /three 201 | 0 | 0 | Joined\n", "{client} {first} {second}");
            }
        }
    }
}

/// The rest of a frame, and others behind it that would prove themselves.
#[test]
fn joined_late_where_frames_follow_a_piece() {
    for first in 1..12 {
        let told = told(|wire| {
            let before = wire.request(1, 0, "POST", "/1");
            wire.end.flags |= sonde_abi::record::flags::LATE;
            wire.end.positions = [70_000 + before.len() as u64, 80_000];
            let requests =
                [3, 5, 7].map(|stream| wire.request(stream, END_STREAM, "GET", &format!("/{stream}")));
            let (one, rest) = requests[0].split_at(first);
            wire.send(CLIENT, one);
            wire.send(CLIENT, &[rest, &requests[1], &requests[2]].concat());
            for stream in [3, 5, 7] {
                let answer = wire.response(stream, END_STREAM, "200");
                wire.send(SERVER, &answer);
            }
        });
        let expected = [3, 5, 7].map(|stream| format!("GET /{stream} 200 | 0 | 0 | Joined\n")).concat();
        assert_eq!(told, expected, "{first}");
    }
}

#[test]
fn blocks_that_begin_no_request() {
    let told = told(|wire| {
        wire.open();
        // An index that no table has, behind a method; a method that is none.
        wire.send(CLIENT, &frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x82, 0xff, 0xff, 0x7f]));
        let three = wire.request(3, END_STREAM, "G\u{7}T", "/3");
        let five = wire.request(5, END_STREAM, "GET", "/5");
        wire.send(CLIENT, &[three, five].concat());
        for stream in [1, 3, 5] {
            let answer = wire.response(stream, END_STREAM, "200");
            wire.send(SERVER, &answer);
        }
    });
    assert_eq!(told, "GET /5 200 | 0 | 0\nlost desync 1\n");
}

#[test]
fn answers_may_overtake_their_requests() {
    let mut wire = Wire::new(Role::Client);
    wire.open();
    let [request, answer] = [wire.request(1, END_STREAM, "GET", "/"), wire.response(1, 0, "200")];
    wire.send(SERVER, &[answer, frame(DATA, END_STREAM, 1, b"abc")].concat());
    wire.send(CLIENT, &request);
    assert_eq!(wire.told(), "GET / 200 | 0 | 3\n");
    let said = wire.end.events.iter().map(|event| match event {
        Event::Begin(_) => "begin",
        Event::Milestone { what: Milestone::Requested { .. }, .. } => "requested",
        Event::Milestone { what: Milestone::Responding, .. } => "responding",
        Event::End(_) => "end",
        Event::Followed { .. } => "followed",
    });
    assert_eq!(said.collect::<Vec<_>>(), ["begin", "responding", "requested", "end"]);
}

/// The position of its header block names a stream for both ends.
#[test]
fn both_ends_name_it_alike() {
    let [client, server] = [Role::Client, Role::Server].map(|role| {
        let mut wire = Wire::new(role);
        wire.open();
        for stream in [1, 3, 5] {
            let [request, answer] =
                [wire.request(stream, END_STREAM, "GET", "/"), wire.response(stream, END_STREAM, "200")];
            wire.send(CLIENT, &request);
            wire.send(SERVER, &answer);
        }
        wire.exchanges().iter().map(|exchange| exchange.opening.position).collect::<Vec<_>>()
    });
    // The SYN counts as written.
    assert_eq!(client, server.iter().map(|position| position + 1).collect::<Vec<_>>());
    assert_eq!(client.len(), 3);
}

#[test]
fn what_only_begins_like_it() {
    for rest in [&b"random bytes"[..], &[0xff; 40], &[0; 40]] {
        let mut wire = Wire::new(Role::Server);
        wire.send(CLIENT, &[&super::PREFACE[..18], rest].concat());
        for _ in 0..100 {
            wire.send(CLIENT, rest);
            wire.send(SERVER, rest);
        }
        assert!(wire.exchanges().is_empty());
        assert!(wire.end.counters.lost(crate::telemetry::Lost::Desync) <= 2);
        assert_eq!(wire.direction(CLIENT), Direction::Read);
    }
}
