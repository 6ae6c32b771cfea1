-- Signing in, and the people of an account: small tables, no bucket. now is a parameter here too.

-- $1 e-mail address.
-- name: user_password
select user_id, hash, set_at, active from user_password($1)

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
