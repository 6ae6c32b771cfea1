-- What the console asks about keys. $1 account, $2 user: a member sees and changes keys of their own; an owner sees all of the
-- account and may revoke them.

-- $3 whether an owner asks, $4 now.
-- name: key_list
select k.id, k.name, k.last8, k.created_at, k.expires_at, k.last_used_at,
	case when k.revoked_at is not null then 'revoked' when k.expires_at <= $4 then 'expired' else 'active' end,
	k.environment, k.scopes, u.email, k.user_id = $2,
	(select array_agg(d.name order by d.account_id is not null, d.id)
		from api_key_domains kd join domains d on d.id = kd.domain_id where kd.key_id = k.id)
from api_keys k join users u on u.id = k.user_id
where k.account_id = $1 and ($3 or k.user_id = $2)
order by k.id

-- $5 id.
-- name: key_get
select k.id, k.name, k.last8, k.created_at, k.expires_at, k.last_used_at,
	case when k.revoked_at is not null then 'revoked' when k.expires_at <= $4 then 'expired' else 'active' end,
	k.environment, k.scopes, u.email, k.user_id = $2,
	(select array_agg(d.name order by d.account_id is not null, d.id)
		from api_key_domains kd join domains d on d.id = kd.domain_id where kd.key_id = k.id)
from api_keys k join users u on u.id = k.user_id
where k.account_id = $1 and ($3 or k.user_id = $2) and k.id = $5

-- $3 whether an owner asks, $4 id.
-- name: key_domains
select d.id, d.name, d.status, d.account_id is null
from api_keys k left join api_key_domains kd on kd.key_id = k.id left join domains d on d.id = kd.domain_id
where k.account_id = $1 and ($3 or k.user_id = $2) and k.id = $4
order by d.account_id is not null, d.id

-- Whether there is one that the asker may not see. $1 account, $2 id.
-- name: key_of_account
select 1 from api_keys where account_id = $1 and id = $2

-- $1 account, $2 id. Whose it is, and whether it can still be used.
-- name: key_lock
select user_id, revoked_at is not null from api_keys where account_id = $1 and id = $2 for update

-- As long as the user has fewer than $11.
-- name: key_insert
insert into api_keys (id, account_id, user_id, name, hash, last8, environment, scopes, created_at, expires_at)
select $1, $2, $3, $4::text, $5::bytea, $6::text, $7::text, $8::text[], $9::timestamptz, $10::timestamptz
where (select count(*) from api_keys where user_id = $3) < $11::int

-- A key's domains are replaced: none, then those of the list that the account may use, which are counted. $1 key.
-- name: key_domains_clear
delete from api_key_domains where key_id = $1

-- $2 ids, $3 account.
-- name: key_domains_set
insert into api_key_domains (key_id, domain_id, account_id)
select $1, id, $3 from domains
where id = any ($2::uuid[]) and status = 'verified' and (account_id is null or account_id = $3)

-- Null leaves it. $1 id, $2 name, $3 whether the expiry is given, $4 expiry, $5 scopes.
-- name: key_update
update api_keys set name = coalesce($2, name), expires_at = case when $3 then $4::timestamptz else expires_at end,
	scopes = coalesce($5::text[], scopes)
where id = $1

-- $1 id, $2 hash, $3 last 8, $4 environment.
-- name: key_regenerate
update api_keys set hash = $2, last8 = $3, environment = $4 where id = $1

-- $1 id, $2 now.
-- name: key_revoke
update api_keys set revoked_at = coalesce(revoked_at, $2) where id = $1

-- name: key_delete
delete from api_keys where id = $1
