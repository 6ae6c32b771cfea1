-- What apid asks about domains: small tables but for mailboxes, whose statements name their bucket. The account is a condition of
-- each, so that nobody sees or changes another's. Postmaster's mailbox is made by statements of apid.sql and by one here.

-- The platform's and the account's, in the order in which keys have them. $1 account.
-- name: domain_list
select id, name, status, txt_token, txt_valid, mx_valid, mx_lost_since, created_at, account_id is null
from domains
where (account_id is null and status = 'verified') or account_id = $1
order by account_id is not null, id

-- $1 account, $2 id.
-- name: domain_get
select id, name, status, txt_token, txt_valid, mx_valid, mx_lost_since, created_at, account_id is null
from domains
where id = $2 and ((account_id is null and status = 'verified') or account_id = $1)

-- Claiming. First the account's row, so that two claims at once are counted one after the other: in a statement of its own,
-- because what a statement counts is what was there when it began.
-- name: domain_limit
select p.custom_domains from accounts a join plans p on p.name = a.plan where a.id = $1 for no key update of a

-- name: domain_count
select count(*) from domains where account_id = $1

-- The domain of the platform that a name is, or is below.
-- name: domain_of_platform
select name from domains
where account_id is null and (name = $1::text or right($1::text, length(name) + 1) = '.' || name) limit 1

-- $1 id, $2 account, $3 name, $4 token, $5 now.
-- name: domain_insert
insert into domains (id, account_id, name, status, txt_token, created_at) values ($1, $2, $3, 'pending', $4, $5)

-- What the DNS said, where it said something (null: it did not). $1 account, $2 id, $3 txt, $4 mx, $5 now.
-- name: domain_found
update domains set
	txt_valid = coalesce($3::boolean, txt_valid),
	mx_valid = coalesce($4::boolean, mx_valid),
	mx_lost_since = case
		when $4::boolean or status <> 'verified' then null
		when $4::boolean is null then mx_lost_since
		else coalesce(mx_lost_since, $5::timestamptz)
	end
where account_id = $1 and id = $2
returning status = 'pending' and txt_valid and mx_valid

-- The unique index lets one account in. $1 account, $2 id, $3 when to look again.
-- name: domain_verify
update domains set status = 'verified', check_at = $3 where account_id = $1 and id = $2

-- Who gets postmaster's mail: the oldest owner who can sign in. Kept until the mailbox is made, as by mailbox_owner_stays.
-- name: domain_postmaster
select id from users where account_id = $1 order by role <> 'owner', state <> 'active', id limit 1 for key share

-- $1 bucket, $2 id, $3 account, $4 user, $5 domain, $6 address, $7 now.
-- name: postmaster_insert
insert into mailboxes (bucket, id, account_id, user_id, domain_id, address, recoverable, created_at)
values ($1, $2, $3, $4, $5, $6, false, $7)
on conflict (bucket, address) do nothing
returning id

-- Giving up. $1 account, $2 id, $3 now. The keys' rights go with the row.
-- name: domain_delete
with gone as (
	delete from domains where account_id = $1 and id = $2 returning id, account_id
)
insert into domain_leftovers (domain_id, account_id, deleted_at) select id, account_id, $3 from gone

-- $1 account, $2 domain, $3 after this mailbox, $4 how many.
-- name: domain_purge
select domain_purge($1, $2, $3, $4)

-- Looking again (domain_check). Whoever takes a domain has it to itself until $2; one that another has now is passed over.
-- $1 now, $2 when the next look is due.
-- name: domain_check_take
select account, domain, domain_name, token, lost_since from domain_check_take($1, $2)

-- Leftovers by age of the domain; one of the platform's has one for each account. After $1 domain, $2 account.
-- name: domain_leftover
select account, domain, deleted_at from domain_leftover($1, $2)

-- name: domain_leftover_done
delete from domain_leftovers where domain_id = $1 and account_id = $2
