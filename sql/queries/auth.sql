-- What auth asks: who a key is (on the connections every request uses), and the round trips of its listening
-- connection. Keys, people and domains are small tables that every node has.

-- Everything about a key in one row, or none. Domains: the platform's first, then by age; only those the key may still
-- use. $1 hash of the key.
-- name: auth_key
select k.id, k.account_id, k.user_id, k.name, k.last8, k.expires_at, k.revoked_at is not null,
	a.state = 'active' and u.state = 'active', k.scopes, u.email, p.name, p.calls_per_day, p.requests_per_minute,
	p.active_mailboxes, p.archived_mailboxes, d.ids, d.names, u.role = 'owner', p.custom_domains, p.members
from api_keys k
join users u on u.id = k.user_id
join accounts a on a.id = k.account_id
join plans p on p.name = a.plan
cross join lateral (
	select array_agg(d.id order by d.account_id is not null, d.id) as ids,
		array_agg(d.name order by d.account_id is not null, d.id) as names
	from api_key_domains kd join domains d on d.id = kd.domain_id
	where kd.key_id = k.id and d.status = 'verified' and (d.account_id is null or d.account_id = k.account_id)
) d
where k.hash = $1

-- When keys were last used, a batch at a time. A row that somebody else holds is skipped, so that two
-- workers never wait for each other; the next use writes it. $1 keys, $2 times.
-- name: auth_keys_used
update api_keys k set last_used_at = x.at
from (
	select h.id, u.at
	from unnest($1::uuid[], $2::timestamptz[]) as u (id, at) join api_keys h on h.id = u.id
	where h.last_used_at is null or h.last_used_at < u.at
	for no key update of h skip locked
) x
where k.id = x.id

-- On the listening connection. A round trip, for the lease.
-- name: auth_heartbeat
select 1

-- $1 nonce of the notice.
-- name: auth_confirm
select pg_notify('minutemail_keys_ack', pg_backend_pid() || ' ' || $1::text)
