-- Row-level security: the second wall behind the owner conditions of the daemons' SQL. apid says on whose behalf each statement is, in
-- two settings that end with the transaction (pg_query_as() and pg_tx_as(), common/pg.h); without them there is not a row:
--   minutemail.account  rows of an account;
--   minutemail.user     mails and what belongs to them, sessions and links: nobody's but that one user's, an owner's neither.
-- Policies compare columns of the row with these settings and look at no other table, so that they mean the same on each node of
-- Citus. nullif(): a session in which the setting was made once has '' afterwards.
--
-- Nothing is FORCEd: the owner of the tables migrates, expires and is the operator. apid refuses a role that passes over the policies.
--
-- What cannot be on behalf of anybody yet, or is on behalf of many at once, are functions of minutemail_gate, a role that nobody can
-- log in as or become, and whose grants below are all it can do. Each is named with its reason where it is made.

-- ---- whose mails are ----

-- Never null: a mail whose mailbox was gone when this was added is nobody's, the nil UUID's.
alter table messages add user_id uuid;
-- step
update messages m set user_id = coalesce((select b.user_id from mailboxes b where b.bucket = m.bucket and b.id = m.mailbox_id),
	'00000000-0000-0000-0000-000000000000');
-- step
alter table messages alter user_id set not null;
-- step
alter table message_source add user_id uuid;
-- step
update message_source s set user_id = coalesce((select m.user_id from messages m where m.bucket = s.bucket and m.id = s.id),
	'00000000-0000-0000-0000-000000000000');
-- step
alter table message_source alter user_id set not null;
-- step
alter table message_authentication add user_id uuid;
-- step
update message_authentication a set user_id = m.user_id from messages m where m.bucket = a.bucket and m.id = a.id;
-- step
alter table message_authentication alter user_id set not null;
-- step
comment on column messages.user_id is 'the mailbox''s, as in message_source and message_authentication: policies look at no other table';
-- step
-- With the user last: counting a mailbox's mails stays a matter of the index alone.
drop index messages_list;
-- step
create index messages_list on messages (bucket, mailbox_id, id desc, user_id);
-- step
alter table api_key_domains add account_id uuid;
-- step
update api_key_domains kd set account_id = k.account_id from api_keys k where k.id = kd.key_id;
-- step
alter table api_key_domains alter account_id set not null;
-- step
comment on column api_key_domains.account_id is 'the key''s';

-- ---- the wall ----

-- step
alter table accounts enable row level security;
-- step
create policy apid on accounts to minutemail_apid
	using (id = nullif(current_setting('minutemail.account', true), '')::uuid);
-- step
alter table users enable row level security;
-- step
create policy apid on users to minutemail_apid
	using (account_id = nullif(current_setting('minutemail.account', true), '')::uuid);
-- step
alter table sessions enable row level security;
-- step
create policy apid on sessions to minutemail_apid
	using (user_id = nullif(current_setting('minutemail.user', true), '')::uuid);
-- step
alter table password_resets enable row level security;
-- step
create policy apid on password_resets to minutemail_apid
	using (user_id = nullif(current_setting('minutemail.user', true), '')::uuid);
-- step
alter table invitations enable row level security;
-- step
create policy apid on invitations to minutemail_apid
	using (account_id = nullif(current_setting('minutemail.account', true), '')::uuid);
-- step
alter table domains enable row level security;
-- step
create policy apid on domains to minutemail_apid
	using (account_id = nullif(current_setting('minutemail.account', true), '')::uuid);
-- step
-- The platform's are for everybody to see and nobody here to change.
create policy apid_platform on domains for select to minutemail_apid using (account_id is null);
-- step
alter table domain_leftovers enable row level security;
-- step
create policy apid on domain_leftovers to minutemail_apid
	using (account_id = nullif(current_setting('minutemail.account', true), '')::uuid);
-- step
alter table api_keys enable row level security;
-- step
create policy apid on api_keys to minutemail_apid
	using (account_id = nullif(current_setting('minutemail.account', true), '')::uuid);
-- step
alter table api_key_domains enable row level security;
-- step
create policy apid on api_key_domains to minutemail_apid
	using (account_id = nullif(current_setting('minutemail.account', true), '')::uuid);
-- step
-- An owner sees what mailboxes members have, so the account it is; what is in them, below.
alter table mailboxes enable row level security;
-- step
create policy apid on mailboxes to minutemail_apid
	using (account_id = nullif(current_setting('minutemail.account', true), '')::uuid);
-- step
alter table account_mailboxes enable row level security;
-- step
create policy apid on account_mailboxes to minutemail_apid
	using (account_id = nullif(current_setting('minutemail.account', true), '')::uuid);
-- step
alter table messages enable row level security;
-- step
create policy apid on messages to minutemail_apid
	using (user_id = nullif(current_setting('minutemail.user', true), '')::uuid);
-- step
alter table message_source enable row level security;
-- step
create policy apid on message_source to minutemail_apid
	using (user_id = nullif(current_setting('minutemail.user', true), '')::uuid);
-- step
alter table message_authentication enable row level security;
-- step
create policy apid on message_authentication to minutemail_apid
	using (user_id = nullif(current_setting('minutemail.user', true), '')::uuid);
-- step
alter table api_audit enable row level security;
-- step
create policy apid on api_audit to minutemail_apid
	using (account_id = nullif(current_setting('minutemail.account', true), '')::uuid);
-- step
alter table api_key_usage enable row level security;
-- step
create policy apid on api_key_usage to minutemail_apid
	using (account_id = nullif(current_setting('minutemail.account', true), '')::uuid);
-- step
-- The ledger and the locks: the owner's functions alone (0005, 0007).
alter table api_usage enable row level security;
-- step
alter table account_locks enable row level security;

-- ---- smtpd ----

-- Mail is for any mailbox, so its rows are not compared with anything; the grants say which columns, and that nothing is read back
-- but keys.
-- step
create policy smtpd on mailboxes for select to minutemail_smtpd using (true);
-- step
create policy smtpd on domains for select to minutemail_smtpd using (status = 'verified');
-- step
create policy smtpd_insert on messages for insert to minutemail_smtpd with check (true);
-- step
create policy smtpd_select on messages for select to minutemail_smtpd using (true);
-- step
create policy smtpd_update on messages for update to minutemail_smtpd using (true);
-- step
create policy smtpd_insert on message_source for insert to minutemail_smtpd with check (true);
-- step
create policy smtpd_select on message_source for select to minutemail_smtpd using (true);
-- step
create policy smtpd_update on message_source for update to minutemail_smtpd using (true);
-- step
create policy smtpd_insert on message_authentication for insert to minutemail_smtpd with check (true);
-- step
grant select (user_id) on mailboxes to minutemail_smtpd;

-- ---- the gate: what it may ----

-- step
do $$
begin
	create role minutemail_gate nologin;
exception when duplicate_object or unique_violation then
	null;
end
$$;
-- step
-- Whoever gives functions to a role must be of it, and it must be able to make some: both only for as long as this takes.
grant minutemail_gate to current_user;
-- step
grant usage, create on schema public to minutemail_gate;
-- step
grant select on accounts, plans, domains, api_key_domains to minutemail_gate;
-- step
grant select on users to minutemail_gate;
-- step
grant select, update (last_used_at) on api_keys to minutemail_gate;
-- step
grant select, update (used_at) on sessions to minutemail_gate;
-- step
grant select on password_resets to minutemail_gate;
-- step
grant select, delete on invitations to minutemail_gate;
-- step
grant update (check_at) on domains to minutemail_gate;
-- step
grant select on domain_leftovers to minutemail_gate;
-- step
grant select, update (user_id), delete on mailboxes to minutemail_gate;
-- step
grant select (bucket, id, mailbox_id, user_id, expiry_hour), update (user_id), delete on messages to minutemail_gate;
-- step
grant select (bucket, id, user_id, expiry_hour), update (user_id), delete on message_source to minutemail_gate;
-- step
grant select (bucket, id, user_id), update (user_id) on message_authentication to minutemail_gate;
-- step
grant insert, select (account_id, id, at, user_id, key_id, status) on api_audit to minutemail_gate;
-- step
grant insert, select, update (calls) on api_key_usage to minutemail_gate;
-- step
create policy gate on accounts for select to minutemail_gate using (true);
-- step
create policy gate on users for select to minutemail_gate using (true);
-- step
create policy gate on domains to minutemail_gate using (true);
-- step
create policy gate on domain_leftovers for select to minutemail_gate using (true);
-- step
create policy gate on api_keys to minutemail_gate using (true);
-- step
create policy gate on api_key_domains for select to minutemail_gate using (true);
-- step
create policy gate on sessions to minutemail_gate using (true);
-- step
create policy gate on password_resets for select to minutemail_gate using (true);
-- step
create policy gate on invitations to minutemail_gate using (true);
-- step
create policy gate on mailboxes to minutemail_gate using (true);
-- step
create policy gate on messages to minutemail_gate using (true);
-- step
create policy gate on message_source to minutemail_gate using (true);
-- step
create policy gate on message_authentication to minutemail_gate using (true);
-- step
create policy gate on api_audit to minutemail_gate using (true);
-- step
create policy gate on api_key_usage to minutemail_gate using (true);

-- ---- the gate: who asks is not known yet ----

-- A key's hash says who asks. Everything about the key in one row, or none; domains: those it may still use, the platform's first.
-- step
create function auth_key(of_hash bytea) returns table (key_id uuid, account uuid, owner uuid, key_name text, key_last8 text,
	ends_at timestamptz, revoked boolean, active boolean, key_scopes text[], email text, plan text, calls_per_day bigint,
	requests_per_minute int, active_mailboxes int, archived_mailboxes int, domain_ids uuid[], domain_names text[],
	account_owner boolean, custom_domains int, members int)
	language plpgsql stable security definer set search_path = pg_catalog, public, pg_temp
as $$
begin
	return query
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
	where k.hash = of_hash;
end
$$;
-- step
-- A session's hash likewise, in the same columns: every domain of the platform and every verified one of the account. Dead ones are
-- not found. idle_us: how many microseconds it may go unused.
create function auth_session(of_hash bytea, at timestamptz, idle_us bigint) returns table (session_id uuid, account uuid, owner uuid,
	key_name text, key_last8 text, ends_at timestamptz, revoked boolean, active boolean, key_scopes text[], email text, plan text,
	calls_per_day bigint, requests_per_minute int, active_mailboxes int, archived_mailboxes int, domain_ids uuid[],
	domain_names text[], account_owner boolean, custom_domains int, members int)
	language plpgsql stable security definer set search_path = pg_catalog, public, pg_temp
as $$
begin
	return query
	select s.id, u.account_id, s.user_id, ''::text, ''::text, least(s.ends_at, s.used_at + idle_us * interval '1 microsecond'), false,
		a.state = 'active' and u.state = 'active', '{}'::text[], u.email, p.name, p.calls_per_day, p.requests_per_minute,
		p.active_mailboxes, p.archived_mailboxes, d.ids, d.names, u.role = 'owner', p.custom_domains, p.members
	from sessions s
	join users u on u.id = s.user_id
	join accounts a on a.id = u.account_id
	join plans p on p.name = a.plan
	cross join lateral (
		select array_agg(d.id order by d.account_id is not null, d.id) as ids,
			array_agg(d.name order by d.account_id is not null, d.id) as names
		from domains d
		where d.status = 'verified' and (d.account_id is null or d.account_id = u.account_id)
	) d
	where s.hash = of_hash and s.ends_at > at and s.used_at > at - idle_us * interval '1 microsecond';
end
$$;
-- step
-- An address and a password say who signs in; apid, which cannot read the hashes, has to know the one to compare with.
drop function user_password(text);
-- step
create function user_password(of_email text)
	returns table (user_id uuid, hash text, set_at timestamptz, active boolean, account_id uuid)
	language sql stable security definer set search_path = pg_catalog, public, pg_temp
as $$
	select u.id, u.password_hash, u.password_set_at, u.state = 'active' and a.state = 'active', a.id
	from users u join accounts a on a.id = u.account_id
	where u.email = of_email
$$;
-- step
-- Links: the secret's hash says who has one. An invitation without an account is to one of the guest's own, which is not there yet.
create function invitation_find(of_hash bytea, at timestamptz) returns table (account uuid, address text, owner boolean)
	language sql stable security definer set search_path = pg_catalog, public, pg_temp
as $$
	select account_id, email, role = 'owner' from invitations where hash = of_hash and expires_at > at
$$;
-- step
create function invitation_take(of_hash bytea, at timestamptz) returns setof uuid
	language sql security definer set search_path = pg_catalog, public, pg_temp
as $$
	delete from invitations where hash = of_hash and expires_at > at returning account_id
$$;
-- step
create function reset_find(of_hash bytea, at timestamptz) returns table (owner uuid, address text, account uuid)
	language sql stable security definer set search_path = pg_catalog, public, pg_temp
as $$
	select r.user_id, u.email, u.account_id from password_resets r join users u on u.id = r.user_id
	where r.hash = of_hash and r.expires_at > at
$$;
-- step
-- The first one to sign up gets more than the next, and an address is one user's in all accounts together: no more is told than yes.
create function people_any() returns boolean
	language sql stable security definer set search_path = pg_catalog, public, pg_temp
as $$
	select exists (select from users)
$$;
-- step
create function user_exists(of_email text) returns boolean
	language sql stable security definer set search_path = pg_catalog, public, pg_temp
as $$
	select exists (select from users where email = of_email)
$$;

-- ---- the gate: on behalf of many at once ----

-- When keys and sessions were last used, a batch at a time. A row that somebody else holds is skipped, so that two workers never wait
-- for each other; the next use writes it.
-- step
create function auth_keys_used(keys uuid[], times timestamptz[]) returns void
	language sql security definer set search_path = pg_catalog, public, pg_temp
as $$
	update api_keys k set last_used_at = x.at
	from (
		select h.id, u.at from unnest(keys, times) as u (id, at) join api_keys h on h.id = u.id
		where h.last_used_at is null or h.last_used_at < u.at
		for no key update of h skip locked
	) x
	where k.id = x.id
$$;
-- step
create function auth_sessions_used(of_sessions uuid[], times timestamptz[]) returns void
	language sql security definer set search_path = pg_catalog, public, pg_temp
as $$
	update sessions s set used_at = x.at
	from (
		select h.id, u.at from unnest(of_sessions, times) as u (id, at) join sessions h on h.id = u.id
		where h.used_at < u.at
		for no key update of h skip locked
	) x
	where s.id = x.id
$$;
-- step
-- A batch of the audit log, each entry of its own account, and what counts of it (sql/queries/audit.sql).
create function audit_write(accounts uuid[], ids uuid[], times timestamptz[], users uuid[], keys uuid[], key_names text[],
	key_last8s text[], methods text[], routes text[], statuses int2[], request_ids text[], counted_accounts uuid[], counted_keys uuid[],
	counted_days int[], counted_users uuid[], counted_calls bigint[]) returns void
	language plpgsql security definer set search_path = pg_catalog, public, pg_temp
as $$
begin
	insert into api_key_usage as u (account_id, key_id, day, user_id, calls)
	select c.account_id, c.key_id, c.day, c.user_id, sum(c.calls)
	from unnest(counted_accounts, counted_keys, counted_days, counted_users, counted_calls) as c (account_id, key_id, day, user_id, calls)
	group by c.account_id, c.day, c.key_id, c.user_id
	order by c.account_id, c.day, c.key_id
	on conflict (account_id, day, key_id) do update set calls = u.calls + excluded.calls;
	insert into api_audit (account_id, id, at, user_id, key_id, key_name, key_last8, method, route, status, request_id)
	select * from unnest(accounts, ids, times, users, keys, key_names, key_last8s, methods, routes, statuses, request_ids);
end
$$;
-- step
-- The same batch once more: what is there already is neither written nor counted twice.
create function audit_write_again(accounts uuid[], ids uuid[], times timestamptz[], users uuid[], keys uuid[], key_names text[],
	key_last8s text[], methods text[], routes text[], statuses int2[], request_ids text[]) returns void
	language sql security definer set search_path = pg_catalog, public, pg_temp
as $$
	with written as (
		insert into api_audit (account_id, id, at, user_id, key_id, key_name, key_last8, method, route, status, request_id)
		select * from unnest(accounts, ids, times, users, keys, key_names, key_last8s, methods, routes, statuses, request_ids)
		on conflict do nothing
		returning account_id, at, user_id, key_id, status
	)
	insert into api_key_usage as u (account_id, key_id, day, user_id, calls)
	select account_id, key_id, floor(extract(epoch from at) / 86400)::int as day, user_id, count(*)
	from written
	where key_id is not null and status <> 429 and status < 500
	group by account_id, day, key_id, user_id
	order by account_id, day, key_id
	on conflict (account_id, day, key_id) do update set calls = u.calls + excluded.calls
$$;
-- step
-- Domains to be looked at again, whosever they are; what is found is then written on behalf of their account. Whoever takes one has
-- it to itself until `until`; one that another has now is passed over.
create function domain_check_take(at timestamptz, until timestamptz)
	returns table (account uuid, domain uuid, domain_name text, token text, lost_since timestamptz)
	language sql security definer set search_path = pg_catalog, public, pg_temp
as $$
	update domains d set check_at = until
	from (
		select id from domains
		where status = 'verified' and account_id is not null and (check_at is null or check_at <= at)
		order by check_at nulls first limit 1 for no key update skip locked
	) due
	where d.id = due.id
	returning d.account_id, d.id, d.name, d.txt_token, d.mx_lost_since
$$;
-- step
-- Leftovers by rising domain, whosever they are.
create function domain_leftover(after_domain uuid, after_account uuid)
	returns table (account uuid, domain uuid, deleted_at timestamptz)
	language sql stable security definer set search_path = pg_catalog, public, pg_temp
as $$
	select l.account_id, l.domain_id, l.deleted_at from domain_leftovers l
	where (l.domain_id, l.account_id) > (after_domain, after_account)
	order by l.domain_id, l.account_id limit 1
$$;

-- ---- the gate: what is another's, or may be ----

-- What stands at an address and is dead, or archived by the same user, makes room for a new mailbox, with its mails: whosever it was.
-- The caller takes it from that one's list.
-- step
create function mailbox_make_room(of_bucket smallint, of_address text, at timestamptz, for_user uuid)
	returns table (dead uuid, dead_account uuid)
	language plpgsql security definer set search_path = pg_catalog, public, pg_temp
as $$
begin
	return query
	with dead as (
		delete from mailboxes b
		where b.bucket = of_bucket and b.address = of_address and b.expires_at <= at and (not b.recoverable or b.user_id = for_user)
		returning b.id, b.account_id
	), mail as (
		delete from messages m using dead d where m.bucket = of_bucket and m.mailbox_id = d.id
		returning m.id, m.expiry_hour
	), source as (
		delete from message_source s using mail m where s.bucket = of_bucket and s.id = m.id and s.expiry_hour = m.expiry_hour
	)
	select d.id, d.account_id from dead d;
end
$$;
-- step
-- Asked when a statement found nothing, to tell 403 from 404: is there such a mailbox at all (no row: none), and is it the asker's?
create function mailbox_whose(of_bucket smallint, of_mailbox uuid, at timestamptz, for_user uuid, for_domains uuid[])
	returns setof boolean
	language sql stable security definer set search_path = pg_catalog, public, pg_temp
as $$
	select user_id = for_user and domain_id = any (for_domains)
	from mailboxes where bucket = of_bucket and id = of_mailbox and (expires_at is null or expires_at > at)
$$;
-- step
create function archived_whose(of_bucket smallint, of_mailbox uuid, at timestamptz, for_user uuid, for_domains uuid[])
	returns setof boolean
	language sql stable security definer set search_path = pg_catalog, public, pg_temp
as $$
	select user_id = for_user and domain_id = any (for_domains)
	from mailboxes where bucket = of_bucket and id = of_mailbox and recoverable and expires_at <= at
$$;
-- step
-- For a mail of the server's own, whoever's mailbox it is; the mail is then written on behalf of its owner. The mailbox cannot go
-- before the transaction has ended.
create function mailbox_share_anybodys(of_bucket smallint, of_address text, at timestamptz)
	returns table (mailbox uuid, box_address text, ends_at timestamptz, account uuid, owner uuid)
	language sql security definer set search_path = pg_catalog, public, pg_temp
as $$
	select id, address, expires_at, account_id, user_id from mailboxes
	where bucket = of_bucket and address = of_address and (expires_at is null or expires_at > at)
	for share
$$;
-- step
-- How many mails are in a mailbox of the account, for an owner, who may know that and may not see them.
create function mailbox_message_count(of_bucket smallint, of_mailbox uuid) returns bigint
	language sql stable security definer set search_path = pg_catalog, public, pg_temp
as $$
	select count(*) from messages m
	where m.bucket = of_bucket and m.mailbox_id = of_mailbox and exists (select from mailboxes b
		where b.bucket = of_bucket and b.id = of_mailbox
			and b.account_id = nullif(current_setting('minutemail.account', true), '')::uuid)
$$;
-- step
-- A mailbox's mails are its user's. For the two functions after it alone.
create function mailbox_own_mails(of_bucket smallint, of_mailbox uuid, owner uuid) returns int
	language plpgsql security definer set search_path = pg_catalog, public, pg_temp
as $$
declare
	r record;
	changed int := 0;
begin
	for r in
		update messages set user_id = owner where bucket = of_bucket and mailbox_id = of_mailbox and user_id <> owner
		returning id, expiry_hour
	loop
		update message_source set user_id = owner where bucket = of_bucket and id = r.id and expiry_hour = r.expiry_hour;
		update message_authentication set user_id = owner where bucket = of_bucket and id = r.id;
		changed := changed + 1;
	end loop;
	return changed;
end
$$;
-- step
-- A domain's postmaster outlives the member it belonged to (RFC 5321 4.5.1): mailbox and mails change from one user of the account to
-- another. False: it is no such mailbox.
create function mailbox_hand_over(of_bucket smallint, of_mailbox uuid, from_user uuid, to_user uuid) returns boolean
	language plpgsql security definer set search_path = pg_catalog, public, pg_temp
as $$
declare
	account constant uuid := nullif(current_setting('minutemail.account', true), '')::uuid;
begin
	update mailboxes b set user_id = to_user
	where b.bucket = of_bucket and b.id = of_mailbox and b.user_id = from_user and b.account_id = account
		and b.address like 'postmaster@%' and exists (select from users u where u.id = to_user and u.account_id = account);
	if not found then
		return false;
	end if;
	perform mailbox_own_mails(of_bucket, of_mailbox, to_user);
	return true;
end
$$;
-- step
-- A mail that was on its way while its mailbox changed hands is still the former user's: the janitor finds it on its round.
alter function janitor_sweep_bucket(timestamptz, int, int) rename to janitor_sweep_rows;
-- step
create function janitor_sweep_bucket(at timestamptz, in_bucket int, most int) returns int
	language plpgsql security definer set search_path = pg_catalog, public, pg_temp
as $$
declare
	r record;
begin
	if not janitor_lock() then
		return -1;
	end if;
	for r in
		select b.id, b.user_id from mailboxes b where b.bucket = in_bucket::smallint and b.address like 'postmaster@%'
	loop
		perform mailbox_own_mails(in_bucket::smallint, r.id, r.user_id);
	end loop;
	return janitor_sweep_rows(at, in_bucket, most);
end
$$;

-- ---- who may call what ----

-- step
revoke all on function janitor_sweep_bucket(timestamptz, int, int), janitor_sweep_rows(timestamptz, int, int),
	auth_key(bytea), auth_session(bytea, timestamptz, bigint), user_password(text), invitation_find(bytea, timestamptz),
	invitation_take(bytea, timestamptz), reset_find(bytea, timestamptz), people_any(), user_exists(text),
	auth_keys_used(uuid[], timestamptz[]), auth_sessions_used(uuid[], timestamptz[]),
	audit_write(uuid[], uuid[], timestamptz[], uuid[], uuid[], text[], text[], text[], text[], int2[], text[], uuid[], uuid[], int[], uuid[],
		bigint[]),
	audit_write_again(uuid[], uuid[], timestamptz[], uuid[], uuid[], text[], text[], text[], text[], int2[], text[]),
	domain_check_take(timestamptz, timestamptz), domain_leftover(uuid, uuid),
	mailbox_make_room(smallint, text, timestamptz, uuid), mailbox_whose(smallint, uuid, timestamptz, uuid, uuid[]),
	archived_whose(smallint, uuid, timestamptz, uuid, uuid[]), mailbox_share_anybodys(smallint, text, timestamptz),
	mailbox_message_count(smallint, uuid), mailbox_own_mails(smallint, uuid, uuid), mailbox_hand_over(smallint, uuid, uuid, uuid)
	from public;
-- step
revoke execute on function janitor_sweep_rows(timestamptz, int, int) from minutemail_apid;
-- step
grant execute on function janitor_sweep_bucket(timestamptz, int, int),
	auth_key(bytea), auth_session(bytea, timestamptz, bigint), user_password(text), invitation_find(bytea, timestamptz),
	invitation_take(bytea, timestamptz), reset_find(bytea, timestamptz), people_any(), user_exists(text),
	auth_keys_used(uuid[], timestamptz[]), auth_sessions_used(uuid[], timestamptz[]),
	audit_write(uuid[], uuid[], timestamptz[], uuid[], uuid[], text[], text[], text[], text[], int2[], text[], uuid[], uuid[], int[], uuid[],
		bigint[]),
	audit_write_again(uuid[], uuid[], timestamptz[], uuid[], uuid[], text[], text[], text[], text[], int2[], text[]),
	domain_check_take(timestamptz, timestamptz), domain_leftover(uuid, uuid),
	mailbox_make_room(smallint, text, timestamptz, uuid), mailbox_whose(smallint, uuid, timestamptz, uuid, uuid[]),
	archived_whose(smallint, uuid, timestamptz, uuid, uuid[]), mailbox_share_anybodys(smallint, text, timestamptz),
	mailbox_message_count(smallint, uuid), mailbox_hand_over(smallint, uuid, uuid, uuid)
	to minutemail_apid;
-- step
do $$
declare
	f regprocedure;
begin
	foreach f in array array['auth_key(bytea)', 'auth_session(bytea, timestamptz, bigint)', 'user_password(text)',
		'invitation_find(bytea, timestamptz)', 'invitation_take(bytea, timestamptz)', 'reset_find(bytea, timestamptz)', 'people_any()',
		'user_exists(text)', 'auth_keys_used(uuid[], timestamptz[])', 'auth_sessions_used(uuid[], timestamptz[])',
		'audit_write(uuid[], uuid[], timestamptz[], uuid[], uuid[], text[], text[], text[], text[], int2[], text[], uuid[], uuid[], int[], uuid[], bigint[])',
		'audit_write_again(uuid[], uuid[], timestamptz[], uuid[], uuid[], text[], text[], text[], text[], int2[], text[])',
		'domain_check_take(timestamptz, timestamptz)', 'domain_leftover(uuid, uuid)',
		'mailbox_make_room(smallint, text, timestamptz, uuid)', 'mailbox_whose(smallint, uuid, timestamptz, uuid, uuid[])',
		'archived_whose(smallint, uuid, timestamptz, uuid, uuid[])', 'mailbox_share_anybodys(smallint, text, timestamptz)',
		'mailbox_message_count(smallint, uuid)', 'mailbox_own_mails(smallint, uuid, uuid)',
		'mailbox_hand_over(smallint, uuid, uuid, uuid)']::regprocedure[]
	loop
		execute format('alter function %s owner to minutemail_gate', f);
	end loop;
end
$$;
-- step
-- The owner keeps the right to call the one that its janitor uses.
grant execute on function mailbox_own_mails(smallint, uuid, uuid) to current_user;
-- step
revoke create on schema public from minutemail_gate;
-- step
revoke minutemail_gate from current_user;
-- step
-- What the gate's functions do now, apid need not be able to.
revoke insert on api_audit from minutemail_apid;
-- step
revoke insert, update (calls) on api_key_usage from minutemail_apid;
-- step
revoke update (last_used_at) on api_keys from minutemail_apid;
-- step
revoke update (used_at) on sessions from minutemail_apid;
