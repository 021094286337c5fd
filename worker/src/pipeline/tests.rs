//! What happens to a delivery whose handling panics, and how results are recorded. The clock
//! panics, as that is what a test may put in another's place; all the rest is real.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use posthaste_shared::broker::embedded::{EmbeddedBroker, EmbeddedOptions};
use posthaste_shared::broker::{Consumer, DeadReason, Message};
use posthaste_shared::clock::{Clock, ManualClock};
use posthaste_shared::domain::delivery::{Delivery, DeliveryState, FailureReason, Wait};
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::id::{DeliveryId, NotificationId};
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::wire_format::WireFormat;
use posthaste_shared::egress::EgressPolicy;
use posthaste_shared::resolver::Resolver;
use posthaste_shared::services::Services;
use posthaste_shared::store::record::Before;
use posthaste_shared::store::{Store, StoreOptions};
use posthaste_shared::telemetry::metrics::Metrics;
use posthaste_shared::telemetry::trace::Tracer;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admit::Admission;
use super::admit::policy::Rules;
use super::conclude::{self, EventSettings};
use super::deliver::Pipeline;
use super::health::Health;
use super::job::{AckHandle, InFlight, Job, PendingMessage};
use super::record::{Finished, RecordingParts, recorder};
use super::reports::Reports;
use super::room::Room;
use super::stats::Stats;
use super::wake::Wake;
use crate::attempt::Attempter;
use crate::script::Compiler;
use crate::send::Sender;
use crate::wire::fixtures;

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
const LEASE: Duration = Duration::from_secs(10);

/// A clock that panics once when it is told to.
struct Faulty {
    clock: ManualClock,
    panics: AtomicBool,
}

impl Clock for Faulty {
    fn now(&self) -> Timestamp {
        assert!(
            !self.panics.swap(false, Ordering::SeqCst),
            "the clock of this test panics"
        );
        self.clock.now()
    }
}

struct Bench {
    pipeline: Arc<Pipeline>,
    recording: JoinHandle<()>,
    consumer: Box<dyn Consumer>,
    clock: Arc<Faulty>,
    services: Services,
    _files: TempDir,
}

async fn bench() -> Bench {
    let files = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", files.path().join("test.db").display());
    let store = Store::connect(&StoreOptions::new(Secret::new(url)))
        .await
        .unwrap();
    store.migrate().await.unwrap();
    let broker = EmbeddedBroker::new(
        store.clone(),
        Arc::new(ManualClock::new(NOW)),
        EmbeddedOptions::default(),
    );
    let clock = Arc::new(Faulty {
        clock: ManualClock::new(NOW),
        panics: AtomicBool::new(false),
    });
    let services = Services {
        store,
        broker: Arc::new(broker),
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        metrics: Arc::new(Metrics::new()),
        tracer: Tracer::off(),
    };
    let consumer = services.broker.consume(10).await.unwrap();
    let (recorder, recording) = recorder(RecordingParts {
        services: services.clone(),
        acker: consumer.acker(),
        wake: Wake::default(),
        health: Arc::new(Health::default()),
        stats: Arc::new(Stats::default()),
    });
    let sender = Sender::with_resolver(EgressPolicy::default(), &Resolver::new(&[])).unwrap();
    let pipeline = Pipeline {
        services: services.clone(),
        admission: Admission::new(Rules::of_slots(4), CancellationToken::new()).alone(),
        attempter: Attempter::new(sender, Arc::clone(&services.clock), Compiler::in_threads()),
        recorder,
        reports: Reports::channel().0,
        in_flight: InFlight::default(),
        room: Room::new(4),
        events: EventSettings::default(),
        worker: "test".to_owned(),
        tasks: TaskTracker::new(),
        hard_stop: CancellationToken::new(),
    };
    Bench {
        pipeline: Arc::new(pipeline),
        recording: tokio::spawn(recording.run()),
        consumer,
        clock,
        services,
        _files: files,
    }
}

fn delivery(notification: &Notification, endpoint: &Endpoint) -> Delivery {
    Delivery {
        id: DeliveryId::of(&notification.id, &endpoint.id, None),
        notification_id: notification.id.clone(),
        tenant: notification.tenant.clone(),
        kind: notification.kind.clone(),
        endpoint_id: endpoint.id.clone(),
        wire_format: endpoint.wire_format,
        recipient: None,
        state: DeliveryState::Pending(Wait::Retry { due_at: NOW }),
        round: 1,
        attempt_count: 0,
        round_base: 0,
        created_at: NOW,
        expires_at: None,
        provider_message_id: None,
        provider_message_date: None,
        provider_error_code: None,
        last_error: None,
        origin: notification.origin,
    }
}

impl Bench {
    /// Runs the job with a clock that panics, to the end of all recording.
    async fn panics(self, job: Job) -> Settled {
        self.clock.panics.store(true, Ordering::SeqCst);
        self.pipeline.start(job);
        self.pipeline.tasks.close();
        self.pipeline.tasks.wait().await;
        // With the last recorder gone the recording ends.
        drop(self.pipeline);
        self.recording.await.unwrap();
        Settled {
            services: self.services,
            _consumer: self.consumer,
            _files: self._files,
        }
    }
}

/// What is left when everything is recorded. The consumer still sends acknowledgements.
struct Settled {
    services: Services,
    _consumer: Box<dyn Consumer>,
    _files: TempDir,
}

#[tokio::test]
async fn a_message_whose_handling_panics_is_dead_lettered_and_acknowledged() {
    let mut bench = bench().await;
    let endpoint = Arc::new(fixtures::endpoint(WireFormat::Raw, json!({})));
    let notification = Arc::new(fixtures::notification("order.paid", json!({"order": 7})));
    let message = Message::of((*notification).clone());
    let published = bench.services.broker.publish(vec![message]).await;
    assert!(published.iter().all(Result::is_ok), "{published:?}");
    let incoming = bench.consumer.next_batch(1).await.unwrap().remove(0);
    let in_flight = &bench.pipeline.in_flight;
    let id = (notification.tenant.clone(), notification.id.clone());
    let held = in_flight.take_notification(id).unwrap();
    let delivery = delivery(&notification, &endpoint);
    let job = Job {
        ack: AckHandle::Message(
            PendingMessage::new(incoming.message, incoming.tag, 1, held),
            in_flight.take(delivery.id, None).unwrap(),
        ),
        before: Before::New {
            notification: Arc::clone(&notification),
            fan_out: 1,
        },
        delivery,
        notification,
        endpoint,
        kept: None,
        waiting: None,
    };
    let settled = bench.panics(job).await;
    let broker = &settled.services.broker;
    let letters = broker.dead_letters(10).await.unwrap();
    let reasons: Vec<_> = letters.iter().map(|letter| letter.reason).collect();
    assert_eq!(reasons, [DeadReason::Poisonous], "{letters:?}");
    let acknowledged = async {
        while broker.depths().await.unwrap()["work"] > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LEASE, acknowledged).await.unwrap();
}

#[tokio::test]
async fn a_delivery_from_the_store_whose_handling_panics_fails_as_our_own_fault() {
    let bench = bench().await;
    let endpoint = Arc::new(fixtures::endpoint(WireFormat::Raw, json!({})));
    let notification = Arc::new(fixtures::notification("order.paid", json!({"order": 7})));
    let store = bench.services.store.clone();
    let waiting = delivery(&notification, &endpoint);
    let id = waiting.id;
    let before = Before::New {
        notification: Arc::clone(&notification),
        fan_out: 1,
    };
    let state = waiting.state.clone();
    let record = conclude::untried(waiting, before, state, None);
    store.record(&[record], NOW).await.unwrap();
    let claimed = store.claim_due(NOW, LEASE, 1).await.unwrap().remove(0);
    let in_flight = bench
        .pipeline
        .in_flight
        .take(id, Some(claimed.lease_until))
        .unwrap();
    let job = Job {
        before: Before::Known {
            round: claimed.delivery.round,
            attempt_count: claimed.delivery.attempt_count,
        },
        ack: AckHandle::Lease(in_flight),
        delivery: claimed.delivery,
        notification: claimed.notification,
        endpoint,
        kept: None,
        waiting: None,
    };
    let settled = bench.panics(job).await;
    let (failed, attempts) = settled.services.store.delivery(id).await.unwrap().unwrap();
    assert!(
        matches!(
            failed.state,
            DeliveryState::Failed {
                reason: FailureReason::Internal,
                ..
            }
        ),
        "{failed:?}"
    );
    assert!(attempts.is_empty(), "{attempts:?}");
    assert!(failed.last_error.unwrap().contains("panicked"));
}

#[tokio::test]
async fn results_that_end_one_after_the_other_share_commits() {
    const MANY: usize = 40;
    let bench = bench().await;
    let endpoint = fixtures::endpoint(WireFormat::Raw, json!({}));
    let begun = Instant::now();
    for number in 0..MANY {
        let mut notification = fixtures::notification("order.paid", json!({"order": number}));
        notification.id = NotificationId::parse(&format!("n-{number}")).unwrap();
        let before = Before::New {
            notification: Arc::new(notification.clone()),
            fan_out: 1,
        };
        let delivery = delivery(&notification, &endpoint);
        let state = DeliveryState::Delivered { at: NOW };
        let record = conclude::untried(delivery, before, state, None);
        let ack = AckHandle::Nobody;
        let finished = Finished { record, ack };
        bench.pipeline.recorder.put(finished).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(bench.pipeline);
    bench.recording.await.unwrap();
    let rows = &bench.services.metrics.store_batch_rows;
    assert_eq!(rows.get_sample_sum() as usize, MANY);
    // However fast the store commits: one each 10 ms, the first, and the last.
    let most = begun.elapsed().as_millis() as u64 / 10 + 2;
    let commits = rows.get_sample_count();
    assert!(commits <= most, "{commits} commits, {most} at the most");
}
