-- Signing in, and the people of an account: small tables, no bucket. now is a parameter here too.

-- $1 e-mail address.
-- name: user_password reads
select user_id, hash, set_at, active, account_id from user_password($1)

-- Whoever opens a session has just proved a password: the user must still be there, able, and have that one. The lock makes it
-- wait for a change of the password and the change for it. $1 user, $2 when the password was set.
-- name: user_lock
select u.email, u.role = 'owner', u.account_id, a.plan
from users u join accounts a on a.id = u.account_id
where u.id = $1 and u.state = 'active' and a.state = 'active' and u.password_set_at is not distinct from $2
for no key update of u

-- $1 user, $2 hash, $3 when it was set.
-- name: user_set_password
update users set password_hash = $2, password_set_at = $3 where id = $1

-- $1 id, $2 user, $3 hash, $4 now, $5 end.
-- name: session_insert
insert into sessions (id, user_id, hash, created_at, used_at, ends_at) values ($1, $2, $3, $4, $4, $5)

-- What is over. $1 user, $2 now, $3 how many microseconds one may go unused.
-- name: session_sweep
delete from sessions where user_id = $1 and (ends_at <= $2 or used_at <= $2 - $3::int8 * interval '1 microsecond')

-- name: session_delete
delete from sessions where id = $1

-- name: session_delete_all
delete from sessions where user_id = $1

-- The people of an account. $1 account in all of these.

-- Changes to one account's people wait for each other: what they count stays true. Its limit of members.
-- name: account_lock
select p.members from accounts a join plans p on p.name = a.plan where a.id = $1 for no key update of a

-- $2 after this id, $3 how many.
-- name: member_list
select id, email, role, state, created_at from users where account_id = $1 and id > $2 order by id limit $3

-- $2 user.
-- name: member_get
select id, email, role, state, created_at from users where account_id = $1 and id = $2

-- Under the lock: a member, and the oldest of the other owners who can sign in. $2 user.
-- name: member_judge
select u.id, u.email, u.role, u.state, u.created_at,
	(select o.id from users o
	where o.account_id = $1 and o.id <> $2 and o.role = 'owner' and o.state = 'active' order by o.id limit 1)
from users u where u.account_id = $1 and u.id = $2

-- $2 user, $3 role, $4 state.
-- name: member_update
update users set role = $3, state = $4 where account_id = $1 and id = $2

-- From here on nothing is made for the member, and what was being made is there. $2 user.
-- name: member_lock
select id from users where account_id = $1 and id = $2 for update

-- With keys and sessions. $2 user.
-- name: member_delete
delete from users where account_id = $1 and id = $2

-- $2 user, $3 how many.
-- name: member_boxes
select mailbox_id from account_mailboxes where account_id = $1 and user_id = $2 order by mailbox_id limit $3

-- A member's mailbox, live, for an owner: as mailbox_get, but how many mails it has is told by who may count them. $1 bucket, $2 id,
-- $3 now, $4 member, $5 domains.
-- name: member_box_get reads
select m.id, m.address, m.recoverable, m.tag, m.created_at, m.expires_at, mailbox_message_count($1, $2)
from mailboxes m
where m.bucket = $1 and m.id = $2 and (m.expires_at is null or m.expires_at > $3) and m.user_id = $4 and m.domain_id = any($5::uuid[])

-- A domain's postmaster outlives the member it belonged to (RFC 5321 4.5.1). $1 bucket, $2 mailbox, $3 member, $4 heir.
-- name: member_postmaster
select mailbox_hand_over($1, $2, $3, $4)

-- $1 account, $2 mailbox, $3 heir.
-- name: member_postmaster_list
update account_mailboxes set user_id = $3 where account_id = $1 and mailbox_id = $2

-- Whatever else it is, live or archived, with its mails. $1 bucket, $2 mailbox, $3 member.
-- name: member_box_destroy
with gone as (
	delete from mailboxes where bucket = $1 and id = $2 and user_id = $3
	returning id
), mail as (
	delete from messages m using gone g where m.bucket = $1 and m.mailbox_id = g.id
	returning m.id, m.expiry_hour
)
delete from message_source s using mail m where s.bucket = $1 and s.id = m.id and s.expiry_hour = m.expiry_hour

-- Invitations. $1 account.

-- name: invitation_list
select id, email, role, created_at, expires_at from invitations where account_id = $1 and expires_at > $2 order by id limit 1000

-- The address's earlier one, and what is over. $2 address, $3 now.
-- name: invitation_clear
delete from invitations where account_id = $1 and (email = $2 or expires_at <= $3)

-- How many there are or may come; whether the address is somebody's already. $2 address.
-- name: invitation_room
select (select count(*) from users where account_id = $1) + (select count(*) from invitations where account_id = $1),
	user_exists($2)

-- $2 id, $3 address, $4 role, $5 hash, $6 now, $7 end.
-- name: invitation_insert
insert into invitations (id, account_id, email, role, hash, created_at, expires_at) values ($2, $1, $3, $4, $5, $6, $7)

-- $2 id.
-- name: invitation_delete
delete from invitations where account_id = $1 and id = $2

-- Links. $1 hash, $2 now.

-- name: invitation_find reads
select account, address, owner from invitation_find($1, $2)

-- name: invitation_take
select invitation_take($1, $2)

-- name: reset_find reads
select owner, address, account from reset_find($1, $2)

-- name: reset_take
delete from password_resets where hash = $1 and expires_at > $2 returning user_id

-- The others that the same user was given. $1 user.
-- name: reset_clear
delete from password_resets where user_id = $1

-- New people.

-- $1 account.
-- name: member_count
select count(*) from users where account_id = $1

-- Who comes first is known only under this lock. $1 class and $2 key.
-- name: signup_lock
select pg_advisory_xact_lock($1::int4, $2::int4)

-- name: people_any reads
select people_any()

-- $1 id, $2 name, $3 plan, $4 now.
-- name: account_insert
insert into accounts (id, name, plan, state, created_at) values ($1, $2, $3, 'active', $4)

-- Nothing if the address is taken. $1 id, $2 account, $3 address, $4 role, $5 now, $6 hash.
-- name: user_insert
insert into users (id, account_id, email, role, state, created_at, password_hash, password_set_at)
values ($1, $2, $3, $4, 'active', $5, $6, $5)
on conflict (email) do nothing

-- name: account_plan
select plan from accounts where id = $1
