//! Whatever happens to segments on their way into a capture: the same exchanges, or marked ones.

use proptest::collection::vec;
use proptest::prelude::*;

use super::conversation::{CLIENT, Conversation, SERVER, STEP, Told, replay, request, response};
use super::write::Segment;

/// Bodies of request and response, and whether the request is sent before the answer to the one before.
type Plan = Vec<(usize, usize, bool)>;

fn plan() -> impl Strategy<Value = Plan> {
    vec((0..600_usize, 0..3000_usize, prop::bool::weighted(0.2)), 1..8)
}

/// A conversation in pieces of these sizes, one after the other.
fn hold(plan: &Plan, seq: [u32; 2], sizes: &[usize]) -> Conversation {
    let mut conversation = Conversation::open(seq);
    let mut sizes = sizes.iter().copied().cycle();
    let mut owed: Vec<Vec<u8>> = Vec::new();
    let mut say = |conversation: &mut Conversation, who, text: &[u8]| {
        let mut rest = text;
        while !rest.is_empty() {
            let size = sizes.next().unwrap_or(1).min(rest.len());
            conversation.say(who, &rest[..size], size);
            rest = &rest[size..];
        }
    };
    for (n, &(asked, answered, pipelined)) in plan.iter().enumerate() {
        if !pipelined {
            for answer in owed.drain(..) {
                say(&mut conversation, SERVER, &answer);
            }
        }
        say(&mut conversation, CLIENT, &request(&format!("/{n}"), asked));
        owed.push(response(210 + n as u16, answered));
    }
    for answer in owed {
        say(&mut conversation, SERVER, &answer);
    }
    conversation
}

/// What there is to tell, whatever the times.
fn timeless(told: &[Told]) -> Vec<Told> {
    told.iter().map(|told| Told { times: (0, 0), ..told.clone() }).collect()
}

fn expected(plan: &Plan) -> Vec<Told> {
    let told = plan.iter().enumerate().map(|(n, &(asked, answered, _))| Told {
        target: format!("/{n}"),
        status: Some(210 + n as u16),
        sizes: (Some(asked as u64), Some(answered as u64)),
        quality: None,
        failure: None,
        times: (0, 0),
        port: 40_000,
    });
    told.collect()
}

/// Stamps as the capture has them: in its order.
fn stamped(mut segments: Vec<Segment>) -> Vec<Segment> {
    let mut time = segments.first().map_or(0, |first| first.time);
    for segment in &mut segments {
        time += STEP;
        segment.time = time;
    }
    segments
}

/// Moves each segment behind the handshake by up to so many places.
fn shuffled(segments: &[Segment], moves: &[u8]) -> Vec<Segment> {
    let (handshake, rest) = segments.split_at(3);
    let mut places: Vec<(usize, usize)> =
        rest.iter().enumerate().map(|(n, _)| (n + usize::from(moves[n % moves.len()]), n)).collect();
    places.sort();
    handshake.iter().cloned().chain(places.into_iter().map(|(_, n)| rest[n].clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_order_and_repetition_gives_the_same(
        plan in plan(),
        seq in any::<[u32; 2]>(),
        sizes in vec(1..1500_usize, 1..8),
        moves in vec(0..12_u8, 1..40),
        again in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..20),
        other_sizes in vec(1..1500_usize, 1..8),
    ) {
        let conversation = hold(&plan, seq, &sizes);
        let mut segments = shuffled(&conversation.segments, &moves);
        // Captured twice, or sent again in other pieces: what overlaps says the same.
        let repeated = hold(&plan, seq, &other_sizes).segments;
        for (which, place) in again {
            let copy = repeated[3 + which.index(repeated.len() - 3)].clone();
            // Behind all that it repeats.
            let within = |segment: &Segment| {
                let distance = segment.seq.wrapping_sub(copy.seq).cast_signed();
                segment.from == copy.from && distance < copy.bytes.len() as i32
            };
            let first = segments.iter().rposition(within).map_or(segments.len(), |last| last + 1);
            segments.insert(first + place.index(segments.len() + 1 - first), copy);
        }
        let outcome = replay(&stamped(segments));
        prop_assert_eq!(timeless(&outcome.told), expected(&plan));
    }

    #[test]
    fn losses_give_the_same_or_marked_ones(
        plan in plan(),
        seq in any::<[u32; 2]>(),
        sizes in vec(100..1500_usize, 1..8),
        lost in vec(any::<prop::sample::Index>(), 1..6),
        closes in any::<bool>(),
    ) {
        let mut conversation = hold(&plan, seq, &sizes);
        if closes {
            conversation.close();
        }
        // Who pipelines on a connection that had begun cannot be told from who does not.
        let kept = if plan.iter().any(|(_, _, pipelined)| *pipelined) { 3 } else { 0 };
        for which in lost {
            let count = conversation.segments.len() - kept;
            if count > 1 {
                conversation.segments.remove(kept + which.index(count));
            }
        }
        let expected = expected(&plan);
        for told in timeless(&replay(&conversation.segments).told) {
            let truth = expected.iter().find(|truth| truth.target == told.target);
            prop_assert!(truth.is_some(), "{told:?} did not happen");
            let truth = truth.unwrap();
            // What answers what is never wrong, also where the exchange is marked.
            prop_assert!(told.status.is_none_or(|status| Some(status) == truth.status), "{told:?}");
            let whole = told.quality.is_none() && told.failure.is_none();
            prop_assert!(!whole || told == *truth, "{told:?} is not {truth:?}");
        }
    }

    #[test]
    fn captures_cut_off_by_length_give_the_same_or_marked_ones(
        plan in plan(),
        sizes in vec(1..1500_usize, 1..8),
        snap in 0..200_usize,
    ) {
        let mut conversation = hold(&plan, [1, 2], &sizes);
        for segment in &mut conversation.segments {
            let kept = segment.bytes.len().min(snap);
            segment.missing = (segment.bytes.len() - kept) as u32;
            segment.bytes.truncate(kept);
        }
        let expected = expected(&plan);
        for told in timeless(&replay(&conversation.segments).told) {
            let truth = expected.iter().find(|truth| truth.target == told.target);
            prop_assert!(truth.is_some() || told.quality.is_some(), "{told:?} did not happen");
            let Some(truth) = truth else { continue };
            prop_assert!(told.status.is_none_or(|status| Some(status) == truth.status), "{told:?}");
            let whole = told.quality.is_none() && told.failure.is_none();
            prop_assert!(!whole || told == *truth, "{told:?} is not {truth:?}");
        }
    }
}
