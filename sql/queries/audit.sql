-- The audit log and the usage of keys (apid/audit.h, sql/migrations/0009_audit.sql).

-- A batch, sent for the first time. Arrays of an element a request: $1 accounts, $2 ids, $3 times, $4 users, $5 keys, $6 their names,
-- $7 their last 8, $8 methods, $9 routes, $10 statuses, $11 request ids. Arrays of what counts of these: $12 accounts, $13 keys,
-- $14 days, $15 users, $16 calls.
-- name: audit_write
select audit_write($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)

-- The same batch once more, since nobody knows: what is there already is neither written nor counted twice, which the database has to
-- find out for each. $1 to $11 as above.
-- name: audit_write_again
select audit_write_again($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)

-- Newest first; last, whether it was the operator, who is nobody's user (deploy/ctl_domains.c). $1 account, $2 user or null, $3 and $4 time, $5 below this id, $6 key or null, $7 status or null, $8 how many.
-- name: audit_list
select id, at, key_id, key_name, key_last8, method, route, status, request_id,
	user_id = '00000000-0000-0000-0000-000000000000'
from api_audit
where account_id = $1 and ($2::uuid is null or user_id = $2) and at >= $3 and at < $4 and id < $5
	and ($6::uuid is null or key_id = $6) and ($7::int2 is null or status = $7)
order by id desc limit $8

-- $1 account, $2 user or null, $3 after this day. A key that was deleted has no name.
-- name: usage_list
select u.key_id, u.day, u.calls, k.name, k.last8
from api_key_usage u left join api_keys k on k.id = u.key_id
where u.account_id = $1 and ($2::uuid is null or u.user_id = $2) and u.day > $3
order by u.key_id, u.day
