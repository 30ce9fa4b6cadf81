//! The two ends of an exchange, in either order.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Joins, Keys, may_be_local};
use crate::conn::{Address, ConnKey, Ends, Pair, Role, Stamp};
use crate::proto::{ExchangeId, Opening};

fn opening(role: Role, opener: Option<Role>, pair: Option<Pair>, position: u64) -> Opening {
    let address = Address::Inet(SocketAddr::from(([127, 0, 0, 1], 80)));
    Opening {
        id: ExchangeId(1),
        conn: ConnKey { sock: 1, generation: 1 },
        ends: Arc::new(Ends { local: address.clone(), peer: address, pair, role: opener }),
        role,
        first: Stamp::default(),
        position,
        connect: None,
        trace: None,
        excluded: false,
        export: None,
    }
}

/// The keys of both ends of one TCP connection, whose opener begins at sequence number `x` and the other at `y`, for a
/// request at `position` that the opener writes, or reads where `reversed`. `known` says which end knows its role.
fn tcp(x: u32, y: u32, position: u64, reversed: bool, known: (bool, bool)) -> (Keys, Keys) {
    let (opener_http, acceptor_http) =
        if reversed { (Role::Server, Role::Client) } else { (Role::Client, Role::Server) };
    let at_opener = opening(
        opener_http,
        known.0.then_some(Role::Client),
        Some(Pair::Tcp { local: x.wrapping_sub(1), peer: y }),
        if reversed { position } else { position + 1 },
    );
    let at_acceptor = opening(
        acceptor_http,
        known.1.then_some(Role::Server),
        Some(Pair::Tcp { local: y, peer: x }),
        position,
    );
    (Keys::of(&at_opener).unwrap(), Keys::of(&at_acceptor).unwrap())
}

fn meets(one: (Role, Keys), two: (Role, Keys)) -> bool {
    let mut joins = Joins::default();
    assert_eq!(joins.meet(ExchangeId(1), one.0, 1000, &one.1), None);
    let found = joins.meet(ExchangeId(2), two.0, 1000, &two.1);
    let left = match found {
        Some(_) => 0,
        // The later one takes the place of one that has the same name.
        None => 1 + usize::from(one.1.own != two.1.own),
    };
    assert_eq!(joins.len(), left);
    found == Some(ExchangeId(1))
}

#[test]
fn tcp_ends_meet_whatever_is_known_of_their_roles() {
    for (x, y) in [(1000, 2000), (0, 0), (u32::MAX, 1), (1, u32::MAX), (7, 7)] {
        for position in [0, 1, 517, u64::from(u32::MAX) + 9] {
            for known in [(true, true), (true, false), (false, true), (false, false)] {
                for reversed in [false, true] {
                    let (opener, acceptor) = tcp(x, y, position, reversed, known);
                    let (first, second) =
                        if reversed { (Role::Server, Role::Client) } else { (Role::Client, Role::Server) };
                    // Where nobody knows who called connect, the client is taken for the one who did.
                    let expect = !(reversed && known == (false, false));
                    let case = format!("{x} {y} {position} {known:?} reversed {reversed}");
                    assert_eq!(meets((first, opener), (second, acceptor)), expect, "{case}");
                    assert_eq!(meets((second, acceptor), (first, opener)), expect, "{case}, other order");
                }
            }
        }
    }
}

#[test]
fn other_connections_and_positions_do_not_meet() {
    let (client, _) = tcp(1000, 2000, 100, false, (true, true));
    for (x, y, position) in [
        (1001, 2000, 100),
        (999, 2000, 100),
        (1000, 2001, 100),
        (2000, 1000, 100),
        (1000, 2000, 101),
        (1000, 2000, 99),
    ] {
        let (_, server) = tcp(x, y, position, false, (true, true));
        assert!(!meets((Role::Client, client), (Role::Server, server)), "{x} {y} {position}");
    }
    let (client, server) = tcp(1000, 2000, 100, false, (true, true));
    assert!(!meets((Role::Client, client), (Role::Client, client)), "two of one role");
    assert!(meets((Role::Client, client), (Role::Server, server)));
}

fn unix(role: Role, position: u64, late: bool) -> Keys {
    let (one, two) = (0xffff_8880_1000, 0xffff_8880_2000);
    let (local, peer) = if role == Role::Client { (one, two) } else { (two, one) };
    Keys::of(&opening(role, None, Some(Pair::Unix { local, peer, late }), position)).unwrap()
}

#[test]
fn unix_ends_meet() {
    let (client, server) = (unix(Role::Client, 70, false), unix(Role::Server, 70, false));
    assert!(meets((Role::Client, client), (Role::Server, server)));
    assert!(meets((Role::Server, server), (Role::Client, client)));
    assert!(!meets((Role::Client, client), (Role::Server, unix(Role::Server, 71, false))));
    // Relative positions say nothing.
    for (one, two) in [(true, true), (true, false), (false, true)] {
        let (client, server) =
            (unix(Role::Client, 70, one), unix(Role::Server, if one == two { 99 } else { 70 }, two));
        assert!(meets((Role::Client, client), (Role::Server, server)), "{one} {two}");
    }
}

#[test]
fn connections_without_a_name_have_no_keys() {
    assert!(Keys::of(&opening(Role::Client, None, None, 0)).is_none());
    let unknown = Pair::Unix { local: 1, peer: 0, late: false };
    assert!(Keys::of(&opening(Role::Client, None, Some(unknown), 0)).is_none());
}

#[test]
fn stamps_do_not_count_where_the_key_is_of_one_exchange_only() {
    let (client, server) = tcp(1000, 2000, 0, false, (true, true));
    let written = 100_000_000_000;
    for read in [written, written - 1_000_000_000, written + 60_000_000_000] {
        let mut joins = Joins::default();
        joins.meet(ExchangeId(1), Role::Client, written, &client);
        assert!(joins.meet(ExchangeId(2), Role::Server, read, &server).is_some(), "{read}");
        let mut joins = Joins::default();
        joins.meet(ExchangeId(2), Role::Server, read, &server);
        assert!(joins.meet(ExchangeId(1), Role::Client, written, &client).is_some(), "{read}, server first");
    }
}

#[test]
fn unix_addresses_used_again_do_not_meet_what_is_over() {
    let (client, server) = (unix(Role::Client, 0, false), unix(Role::Server, 0, false));
    for (end, read, expect) in
        [(2_000_000, 1_500_000, true), (2_000_000, 2_200_000, true), (2_000_000, 2_200_001, false)]
    {
        let mut joins = Joins::default();
        joins.meet(ExchangeId(1), Role::Client, 1_000_000, &client);
        joins.ended(ExchangeId(1), client.own, end);
        assert_eq!(joins.meet(ExchangeId(2), Role::Server, read, &server).is_some(), expect, "{read}");
    }
}

#[test]
fn several_under_way_under_a_relative_key_are_not_told_apart() {
    let (client, server) = (unix(Role::Client, 0, true), unix(Role::Server, 0, true));
    let mut joins = Joins::default();
    joins.meet(ExchangeId(1), Role::Client, 1_000_000, &client);
    joins.meet(ExchangeId(2), Role::Client, 1_000_100, &client);
    assert_eq!(joins.meet(ExchangeId(3), Role::Server, 1_100_000, &server), None);
    // One after the other they are.
    let mut joins = Joins::default();
    joins.meet(ExchangeId(1), Role::Client, 1_000_000, &client);
    joins.ended(ExchangeId(1), client.own, 1_050_000);
    joins.meet(ExchangeId(2), Role::Client, 1_060_000, &client);
    assert_eq!(joins.meet(ExchangeId(3), Role::Server, 1_100_000, &server), Some(ExchangeId(2)));
}

#[test]
fn what_is_forgotten_meets_nobody() {
    let (client, server) = tcp(1, 2, 0, false, (true, true));
    let mut joins = Joins::default();
    joins.meet(ExchangeId(1), Role::Client, 1000, &client);
    joins.forget(ExchangeId(9), client.own);
    assert_eq!(joins.len(), 1, "another's name forgets nothing");
    joins.forget(ExchangeId(1), client.own);
    assert_eq!(joins.meet(ExchangeId(2), Role::Server, 1000, &server), None);
}

#[test]
fn peers_that_may_be_on_this_node() {
    let ends = |local: &str, peer: &str| Ends {
        local: Address::Inet(local.parse().unwrap()),
        peer: Address::Inet(peer.parse().unwrap()),
        pair: None,
        role: None,
    };
    for (peer, expect) in [
        ("127.0.0.1:1", true),
        ("10.1.2.3:1", true),
        ("172.17.0.1:1", true),
        ("172.32.0.1:1", false),
        ("192.168.0.9:1", true),
        ("100.64.0.1:1", true),
        ("100.128.0.1:1", false),
        ("169.254.1.1:1", true),
        ("93.184.216.34:1", false),
        ("203.0.113.5:1", true),
        ("[::1]:1", true),
        ("[2001:db8::1]:1", true),
    ] {
        assert_eq!(may_be_local(&ends("203.0.113.5:80", peer)), expect, "{peer}");
    }
    let unnamed = Address::Unix(Arc::from(""));
    assert!(may_be_local(&Ends { local: unnamed.clone(), peer: unnamed, pair: None, role: None }));
}
