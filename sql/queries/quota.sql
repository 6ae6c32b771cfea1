-- The quota ledger (apid/quota.h, sql/migrations/0005_quota.sql).

-- $1 account, $2 day, $3 minute, $4 calls needed at once, $5 wanted beyond, $6 limit a day, $7 limit a minute, $8 whether the
-- other workers are to give back what they hold if there are too few.
-- name: quota_lease
select granted, day_calls, in_minute from quota_lease($1, $2, $3, $4, $5, $6, $7, $8)

-- $1 account, $2 day, $3 minute, $4 calls.
-- name: quota_return
select quota_return($1, $2, $3, $4)
