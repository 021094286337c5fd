//! What the first attempt of a round settles for those that follow.

use posthaste_shared::domain::delivery::{Delivery, DeliveryState};
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::round::{RoundContent, Transformed};
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::store::record::{Before, Record, Recorded};

use super::bench::{
    Bench, MARGIN, at, attempt, delivered, endpoint, new, notification, parked, retry,
};

const TOKEN: &str = "a-credential-of-the-receiver";

fn kept(text: &str) -> RoundContent {
    RoundContent::Transformed(Transformed {
        payload: Some(RawJson::parse(text.to_owned()).unwrap()),
        headers: vec![("authorization".to_owned(), Secret::new(TOKEN))],
        url: Some("https://example.com/other".to_owned()),
    })
}

/// A change of a delivery whose row says this round and count.
fn next(
    delivery: &Delivery,
    count: u32,
    state: DeliveryState,
    kept: Option<RoundContent>,
) -> Record {
    let delivery = Delivery {
        state,
        attempt_count: count + 1,
        ..delivery.clone()
    };
    let before = Before::Known {
        round: delivery.round,
        attempt_count: count,
    };
    Record {
        delivery,
        before,
        attempt: Some(attempt(count + 1)),
        kept,
        event: None,
        disable: None,
    }
}

async fn claimed(bench: &Bench, seconds: i64) -> Option<RoundContent> {
    bench
        .store
        .claim_due(at(seconds), MARGIN, 10)
        .await
        .unwrap()
        .remove(0)
        .kept
}

pub(crate) async fn what_a_round_began_with_is_kept_until_it_ends(bench: &Bench) {
    let store = &bench.store;
    store.insert_endpoint(&endpoint("ep_1")).await.unwrap();
    let first = kept("{ \"n\": 1.0 }");
    let record = Record {
        attempt: Some(attempt(1)),
        kept: Some(first.clone()),
        ..new(&notification("n-1"), "ep_1", retry(1))
    };
    let delivery = Delivery {
        attempt_count: 1,
        ..record.delivery.clone()
    };
    let record = Record {
        delivery: delivery.clone(),
        ..record
    };
    assert_eq!(
        store.record(&[record], at(0)).await.unwrap(),
        [Recorded::Kept]
    );
    assert_eq!(claimed(bench, 1).await.as_ref(), Some(&first));
    // Later attempts, parking and leases leave it as it is.
    store
        .record(&[next(&delivery, 1, retry(2), None)], at(2))
        .await
        .unwrap();
    assert_eq!(claimed(bench, 2).await.as_ref(), Some(&first));
    let waits = Record {
        attempt: None,
        ..next(&delivery, 1, parked(), None)
    };
    let waits = Record {
        delivery: Delivery {
            attempt_count: 2,
            ..waits.delivery
        },
        before: Before::Known {
            round: 1,
            attempt_count: 2,
        },
        ..waits
    };
    assert_eq!(
        store.record(&[waits], at(3)).await.unwrap(),
        [Recorded::Kept]
    );
    let parked = store
        .claim_parked(&[(delivery.endpoint_id.clone(), 10)], at(3), MARGIN)
        .await
        .unwrap()
        .remove(0);
    assert_eq!(parked.kept.as_ref(), Some(&first));
    // It goes with the end of the round, whoever ends it, and the next round begins without.
    store
        .record(&[next(&delivery, 2, delivered(4), None)], at(4))
        .await
        .unwrap();
    store.retry_now(delivery.id, at(5)).await.unwrap();
    assert_eq!(claimed(bench, 5).await, None);
    let again = Delivery {
        round: 2,
        round_base: 3,
        ..delivery.clone()
    };
    let second = kept("null");
    store
        .record(&[next(&again, 3, retry(6), Some(second.clone()))], at(6))
        .await
        .unwrap();
    assert_eq!(claimed(bench, 6).await, Some(second));
}

pub(crate) async fn what_is_kept_of_a_transform_is_encrypted(bench: &Bench) {
    let store = &bench.store;
    let record = Record {
        attempt: Some(attempt(1)),
        kept: Some(kept("1")),
        ..new(&notification("n-1"), "ep_1", retry(1))
    };
    store.record(&[record], at(0)).await.unwrap();
    match &bench.file {
        Some(file) => {
            for path in [file.clone(), file.with_extension("db-wal")] {
                let bytes = std::fs::read(path).unwrap();
                assert!(
                    !bytes
                        .windows(TOKEN.len())
                        .any(|window| window == TOKEN.as_bytes())
                );
            }
        }
        None => {
            let row = bench
                .sql("SELECT row_to_json(d)::text FROM deliveries d")
                .await
                .remove(0);
            let hex: String = TOKEN.bytes().map(|byte| format!("{byte:02x}")).collect();
            assert!(row.contains("kept") && !row.contains(TOKEN) && !row.contains(&hex));
        }
    }
    assert_eq!(claimed(bench, 1).await, Some(kept("1")));
}

pub(crate) async fn that_a_round_began_without_a_transform_is_kept_too(bench: &Bench) {
    let record = Record {
        attempt: Some(attempt(1)),
        kept: Some(RoundContent::Untransformed),
        ..new(&notification("n-1"), "ep_1", retry(1))
    };
    bench.store.record(&[record], at(0)).await.unwrap();
    assert_eq!(claimed(bench, 1).await, Some(RoundContent::Untransformed));
}
