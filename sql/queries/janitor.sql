-- What apid's janitor calls: the pieces of its work, functions of sql/migrations (0003_janitor.sql and later). Each returns how
-- much it did; less than the most it may do: nothing is left; -1: another instance is at it, or a lock was not to be
-- had now.

-- $1 now, $2 hours ahead, $3 the most.
-- name: janitor_make_partitions
select janitor_make_partitions($1, $2, $3)

-- $1 now, $2 hour and $3 bucket of the call before, $4 the most.
-- name: janitor_expire_messages
select handled, hour, to_bucket from janitor_expire_messages($1, $2, $3, $4)

-- $1 now, $2 the most.
-- name: janitor_drop_sources
select janitor_drop_sources($1, $2)

-- name: janitor_delete_mailboxes
select janitor_delete_mailboxes($1, $2)

-- $1 now, $2 bucket, $3 the most.
-- name: janitor_sweep_bucket
select janitor_sweep_bucket($1, $2, $3)

-- $1 now, $2 the most.
-- name: janitor_days
select janitor_days($1, $2)
