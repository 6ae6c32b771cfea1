-- What auth asks: who a key is (on the connections every request uses), and the round trips of its listening
-- connection. Keys, people and domains are small tables that every node has.

-- Everything about a key in one row, or none. Domains: the platform's first, then by age; only those the key may still
-- use. $1 hash of the key.
-- name: auth_key reads
select * from auth_key($1)

-- When keys were last used, a batch at a time. A row that somebody else holds is skipped, so that two
-- workers never wait for each other; the next use writes it. $1 keys, $2 times.
-- name: auth_keys_used
select auth_keys_used($1, $2)

-- The same when a worker ends: others may be writing the same keys at this moment, and nobody waits behind this statement.
-- name: auth_keys_used_last
select auth_keys_used_last($1, $2)

-- On the listening connection. A round trip, for the lease.
-- name: auth_heartbeat
select 1

-- $1 nonce of the notice.
-- name: auth_confirm
select pg_notify('minutemail_keys_ack', pg_backend_pid() || ' ' || $1::text)

-- A console session like a key, in the same columns: every domain of the platform and every verified one of the account. Dead
-- ones are not found. $1 hash, $2 now, $3 how many microseconds it may go unused.
-- name: auth_session reads
select * from auth_session($1, $2, $3)

-- The same for sessions as auth_keys_used.
-- name: auth_sessions_used
select auth_sessions_used($1, $2)

-- name: auth_sessions_used_last
select auth_sessions_used_last($1, $2)

-- The changer's side (common/keys_sync.h). In the transaction that makes the change: $1 nonce, $2 whose, or *.
-- name: auth_publish
select pg_notify('minutemail_keys', $1::text || ' ' || $2::text)

-- After it: who has to answer, and whether they are gone without a word. $1 class and $2 key of the lock.
-- name: auth_listeners
select coalesce(l.pid, k.pid), l.pid is null
from (
	select distinct pid from pg_locks
	where locktype = 'advisory' and granted and objsubid = 2 and classid = $1::int4::oid and objid = $2::int4::oid
		and database = (select oid from pg_database where datname = current_database())
) l full join key_listeners k on k.pid = l.pid

-- Those who were gone, once the lease on what they had cached has run out, unless the number is another's by now. $3 pids.
-- name: auth_listeners_forget
delete from key_listeners k
where k.pid = any ($3::int4[]) and not exists (
	select from pg_locks l
	where l.pid = k.pid and locktype = 'advisory' and granted and objsubid = 2 and classid = $1::int4::oid and objid = $2::int4::oid)

-- On the listening connection, at the end of an orderly life: nothing cached is used any more.
-- name: auth_leave
delete from key_listeners where pid = pg_backend_pid()
