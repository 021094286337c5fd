//! One conformance suite for the store, run on SQLite and on Postgres.
//!
//! Postgres's URL is taken from `POSTHASTE_TEST_POSTGRES_URL`; each test has a schema, or a file,
//! of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "store/admin.rs"]
mod admin;
#[path = "store/audit.rs"]
mod audit;
#[path = "store/away.rs"]
mod away;
#[path = "store/bench.rs"]
mod bench;
#[path = "store/changes.rs"]
mod changes;
#[path = "store/console.rs"]
mod console;
#[path = "store/endpoints.rs"]
mod endpoints;
#[path = "store/first_attempt.rs"]
mod first_attempt;
#[path = "store/health.rs"]
mod health;
#[path = "store/kept.rs"]
mod kept;
#[path = "store/lists.rs"]
mod lists;
#[path = "store/master_key.rs"]
mod master_key;
#[path = "store/notifications.rs"]
mod notifications;
#[path = "store/partitions.rs"]
mod partitions;
#[path = "store/plans.rs"]
mod plans;
#[allow(dead_code, reason = "the broker's tests need more of it")]
#[path = "broker/proxy.rs"]
mod proxy;
#[path = "store/record.rs"]
mod record;
#[path = "store/stats.rs"]
mod stats;
#[path = "store/turns.rs"]
mod turns;
#[path = "store/unreadable.rs"]
mod unreadable;
#[path = "store/waiting.rs"]
mod waiting;
#[path = "store/workers.rs"]
mod workers;

/// Makes each test once for each database.
macro_rules! conformance {
    ($($module:ident: [$($test:ident),* $(,)?]),* $(,)?) => {
        mod sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::bench::on_sqlite(super::$module::$test).await;
                }
            )*)*
        }
        mod postgres {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::bench::on_postgres(super::$module::$test).await;
                }
            )*)*
        }
    };
}

conformance!(
    master_key: [
        another_master_key_is_refused,
        a_store_of_an_older_version_has_the_key_of_its_endpoints,
        the_key_is_changed_while_others_write,
    ],
    kept: [
        what_a_round_began_with_is_kept_until_it_ends,
        what_is_kept_of_a_transform_is_encrypted,
        that_a_round_began_without_a_transform_is_kept_too,
    ],
    record: [
        a_new_delivery_is_kept_once,
        a_known_delivery_changes_only_from_the_state_it_was_read_in,
        the_second_change_in_a_batch_is_stale,
        what_is_there_is_sorted_out_of_a_batch,
        batches_of_megabytes_are_kept_whole,
        two_workers_record_the_same_delivery_once,
        a_gone_endpoint_is_disabled_once,
        a_gone_endpoint_that_was_repaired_stays_enabled,
        values_at_fault_are_told_from_a_database_at_fault,
        everything_reads_back_as_it_was,
        large_batches_are_kept_whole,
        zero_characters_do_no_harm,
        an_attempt_of_before_its_notification_is_shown,
    ],
    first_attempt: [
        the_attempt_that_finishes_a_delivery_lies_in_its_row,
        a_later_round_adds_to_the_attempt_in_the_row,
    ],
    notifications: [
        an_id_stands_for_one_notification,
        deliveries_of_one_notification_share_it,
        notifications_are_read_in_one_go,
        unmatched_notifications_are_seen,
    ],
    waiting: [
        what_is_due_is_claimed_oldest_first,
        two_workers_never_claim_the_same,
        an_ended_lease_is_due_again,
        a_lease_is_as_long_as_the_endpoints_timeout,
        released_leases_are_due_at_once,
        expiry_comes_with_one_event,
        what_waits_too_long_for_a_disabled_endpoint_expires,
        a_running_lease_is_not_expired,
        parked_deliveries_wait_for_their_endpoint,
        deliveries_of_deleted_endpoints_fail,
        the_next_due_time_is_told,
        the_backlog_is_counted,
    ],
    unreadable: [
        what_is_due_behind_unreadable_deliveries_is_claimed,
        what_is_parked_behind_unreadable_deliveries_is_claimed,
        what_expires_behind_unreadable_deliveries_expires,
        orphans_behind_unreadable_ones_fail,
        a_replay_passes_over_what_it_cannot_read,
        an_unreadable_endpoint_leaves_the_others_usable,
    ],
    lists: [
        deliveries_are_paged_and_filtered,
        pending_deliveries_are_counted_up_to_a_limit,
        notifications_are_paged_and_filtered,
        a_request_is_claimed_once,
        events_are_published_once_and_streamed_in_order,
        scans_use_their_indexes,
    ],
    changes: [
        cancelling_keeps_the_rules,
        retrying_keeps_the_rules,
        a_replay_starts_new_rounds,
        a_replay_is_cancelled_between_two_steps,
        a_redrive_is_leased_followed_and_cancelled,
    ],
    endpoints: [
        an_endpoint_reads_back_and_is_locked_optimistically,
        changes_are_followed,
        secrets_are_encrypted_where_they_lie,
        endpoints_are_paged,
        endpoints_that_only_fail_are_disabled,
    ],
    admin: [
        migrating_twice_does_nothing,
        keys_are_found_by_hash,
        idempotency_keys_stand_for_one_notification,
        old_deliveries_are_removed,
        the_accounting_finds_what_is_wrong,
    ],
    audit: [
        what_was_done_is_there_with_who_did_it,
        a_change_that_is_refused_leaves_no_trace,
        the_audit_is_paged_and_kept_longer,
        the_types_that_there_were_are_told,
    ],
    console: [
        sessions_are_known_by_the_hash_of_their_id,
        a_link_is_used_once,
    ],
    partitions: [
        a_newer_schema_says_which_programs_it_serves,
    ],
    workers: [
        workers_join_acknowledge_and_leave,
        who_does_not_renew_is_dropped_and_joins_anew,
        a_store_that_was_away_costs_nobody_its_membership,
        a_wrong_clock_ends_nobodys_lease,
        workers_that_join_at_once_agree,
    ],
    stats: [
        a_report_adds_up_and_one_that_is_sent_again_adds_nothing,
        reports_that_come_at_once_add_up,
        stats_are_read_by_endpoint_and_tenant,
        old_stats_are_removed_in_steps,
        workers_are_listed_until_they_stop,
    ],
    turns: [
        turns_follow_each_other_whoever_takes_them,
        no_turn_is_lost_or_taken_twice,
        a_raised_limit_does_not_wait_for_the_old_ones_time,
        a_clock_that_was_set_back_blocks_nothing,
        turns_of_idle_endpoints_are_removed,
    ],
    health: [
        each_change_of_health_makes_one_event,
        workers_that_report_at_once_make_one_event,
        it_is_said_when_a_failing_endpoint_will_be_disabled,
        what_is_not_called_is_not_unhealthy,
        health_is_followed_by_its_change_number,
        who_is_to_be_disabled_is_warned_three_times,
        what_is_well_is_removed,
    ],
);

/// What only Postgres does.
mod postgres_alone {
    macro_rules! tests {
        ($($test:ident),* $(,)?) => {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::bench::on_postgres(super::partitions::$test).await;
                }
            )*
        };
    }
    tests!(
        a_new_store_has_tables_for_today_and_tomorrow,
        days_get_their_tables_ahead_of_time,
        old_days_go_and_what_is_still_wanted_stays,
        what_was_interrupted_is_finished,
        a_name_that_comes_again_has_its_own_attempts,
        what_was_there_before_becomes_a_partition,
        a_migration_that_meets_a_worker_in_a_deadlock_tries_again,
    );
}
