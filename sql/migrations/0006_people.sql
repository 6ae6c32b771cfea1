-- People sign in: sessions of the console, links to set a password, invitations to an account. Small tables, like those of keys:
-- reference tables on Citus. Secrets are there as keyed hashes only (common/token.h).

alter table users add password_set_at timestamptz;
-- step
create table sessions (
	id uuid primary key,
	user_id uuid not null references users on delete cascade,
	hash bytea not null unique,
	created_at timestamptz not null,
	used_at timestamptz not null,
	ends_at timestamptz not null
);
-- step
comment on column sessions.used_at is 'to a minute or so: written at most once a minute by each worker';
-- step
create index sessions_user on sessions (user_id);
-- step
-- A link to set a password: works once.
create table password_resets (
	hash bytea primary key,
	user_id uuid not null references users on delete cascade,
	expires_at timestamptz not null
);
-- step
create index password_resets_user on password_resets (user_id);
-- step
-- account_id null: whoever accepts gets an account of their own.
create table invitations (
	id uuid primary key,
	account_id uuid references accounts on delete cascade,
	email text not null,
	role text not null check (role in ('owner', 'member')),
	hash bytea not null unique,
	created_at timestamptz not null,
	expires_at timestamptz not null
);
-- step
create unique index invitations_email on invitations (account_id, email);
-- step
-- One password hash at a time: apid, which cannot read the column, has to know whose it wants.
create function user_password(of_email text) returns table (user_id uuid, hash text, set_at timestamptz, active boolean)
	language sql stable security definer set search_path = pg_catalog, public, pg_temp
as $$
	select u.id, u.password_hash, u.password_set_at, u.state = 'active' and a.state = 'active'
	from users u join accounts a on a.id = u.account_id
	where u.email = of_email
$$;
-- step
revoke execute on function user_password(text) from public;
-- step
grant execute on function user_password(text) to minutemail_apid;
-- step
grant select (password_set_at), insert, update (role, state, password_hash, password_set_at), delete on users to minutemail_apid;
-- step
-- The name: for a lock on the row, by which changes to one account's people wait for each other.
grant insert, update (name) on accounts to minutemail_apid;
-- step
grant select, insert, update (used_at), delete on sessions to minutemail_apid;
-- step
grant select, delete on password_resets to minutemail_apid;
-- step
grant select, insert, delete on invitations to minutemail_apid;
