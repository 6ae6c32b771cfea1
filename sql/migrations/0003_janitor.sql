-- The janitor's work, as functions that apid may call and that run with the rights of the schema's owner: apid itself
-- cannot change the schema. Each call is one transaction that does a bounded piece ("most") and returns how much it
-- did; -1 means that another instance is at work or that a lock was not to be had within lock_timeout, so that mail
-- never waits long behind clean-up.
--
-- The order of things, for an hour that ended more than the grace ago:
--   1. janitor_expire_messages takes the rows of messages of that hour, each once: where the mailbox lives longer (it
--      was given more time while the message arrived), message and sources move to a later hour; the others go, by
--      rows, which are small;
--   2. janitor_drop_sources drops the hour's partition once no row of messages names it any more: the octets go without
--      being touched. In the default partition, which catches mail for hours without a partition, they are deleted.
-- Nothing here decides what a client sees: an expired mailbox is gone at its instant. The grace lets transactions end
-- and clocks differ. Rules kept: now is a parameter, every change of mail data names its bucket.

-- The janitor goes through an hour bucket by bucket.
drop index messages_due;
-- step
create index messages_due on messages (expiry_hour, bucket);
-- step
create index message_source_default_due on message_source_default (expiry_hour);
-- step
create index account_mailboxes_bucket on account_mailboxes (bucket, mailbox_id);
-- step
create function janitor_lock() returns boolean language sql as $$
	select pg_try_advisory_xact_lock(19789, 2)
$$;
-- step
create function janitor_hour(at timestamptz) returns int language sql immutable as $$
	select case when at is null then 2147483647 else floor(extract(epoch from at) / 3600)::int end
$$;
-- step
-- The last hour that ended more than the grace of ten minutes ago.
create function janitor_hour_due(at timestamptz) returns int language sql immutable as $$
	select janitor_hour(at - interval '10 minutes') - 1
$$;
-- step
-- The least id of version 7 that could have been made ten minutes before `at`: what is older is no transaction's newest
-- work.
create function janitor_id_settled(at timestamptz) returns uuid language sql immutable as $$
	select (lpad(to_hex(floor(extract(epoch from at - interval '10 minutes') * 1000)::bigint), 12, '0')
		|| repeat('0', 20))::uuid
$$;
-- step
-- Partitions from the current hour to `ahead` hours later, at most `most` of them a call. Made apart and then attached:
-- that takes no lock that an insert into another partition waits for. An hour of which the default partition has rows
-- already stays there.
create function janitor_make_partitions(at timestamptz, ahead int, most int) returns int
	language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '500ms'
as $$
declare
	hour int;
	made int := 0;
begin
	if not janitor_lock() then
		return -1;
	end if;
	for hour in janitor_hour(at) .. janitor_hour(at) + ahead loop
		exit when made >= most;
		continue when to_regclass(format('public.message_source_h%s', hour)) is not null
			or exists (select from message_source_default where expiry_hour = hour);
		begin
			execute format('create table public.message_source_h%s (like public.message_source including all)', hour);
			execute format('alter table public.message_source attach partition public.message_source_h%s'
				' for values from (%s) to (%s)', hour, hour, hour + 1);
		exception
			when check_violation then -- mail for that hour came into the default partition since we looked
				continue;
			when lock_not_available then
				return case when made > 0 then made else -1 end;
		end;
		made := made + 1;
	end loop;
	return made;
end
$$;
-- step
-- The oldest due hour's rows of messages, `most` a call, or as many as move about 64 MB. Returns how many were handled.
create function janitor_expire_messages(at timestamptz, most int) returns int
	language plpgsql security definer set search_path = pg_catalog, public, pg_temp
as $$
declare
	due int;
	r record;
	in_bucket smallint;
	dead uuid[] := '{}';
	handled int := 0;
	moved bigint := 0;
begin
	if not janitor_lock() then
		return -1;
	end if;
	select min(expiry_hour) into due from messages where expiry_hour <= janitor_hour_due(at);
	if due is null then
		return 0;
	end if;
	for r in
		select m.bucket, m.id, m.size, janitor_hour(b.expires_at) as hour,
			b.id is not null and (b.expires_at is null or b.expires_at > at) as lives
		from (select bucket, id, mailbox_id, size from messages where expiry_hour = due order by bucket limit most) m
		left join mailboxes b on b.bucket = m.bucket and b.id = m.mailbox_id
		order by m.bucket
	loop
		if in_bucket is distinct from r.bucket then
			delete from messages where bucket = in_bucket and id = any (dead) and expiry_hour = due;
			in_bucket := r.bucket;
			dead := '{}';
		end if;
		handled := handled + 1;
		if not r.lives then
			dead := dead || r.id;
			continue;
		end if;
		-- The message first: its row lock is what a deletion at the same moment waits for, and then finds the new hour.
		update messages set expiry_hour = r.hour where bucket = r.bucket and id = r.id and expiry_hour = due;
		if found then
			update message_source set expiry_hour = r.hour where bucket = r.bucket and id = r.id and expiry_hour = due;
			moved := moved + r.size;
			exit when moved > 64 * 1024 * 1024;
		end if;
	end loop;
	delete from messages where bucket = in_bucket and id = any (dead) and expiry_hour = due;
	return handled;
end
$$;
-- step
-- One due partition a call, if no row of messages names its hour; else up to `most` rows of the default partition.
-- Returns how many of either went. Asked again under the lock, because a late message may have come in between.
create function janitor_drop_sources(at timestamptz, most int) returns int
	language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '500ms'
as $$
declare
	due int := janitor_hour_due(at);
	hour int;
	r record;
	gone int := 0;
begin
	if not janitor_lock() then
		return -1;
	end if;
	for hour in
		select substr(c.relname, 17)::int
		from pg_inherits i join pg_class c on c.oid = i.inhrelid
		where i.inhparent = 'public.message_source'::regclass and c.relname ~ '^message_source_h[0-9]+$'
		order by 1
	loop
		continue when hour > due or exists (select from messages where expiry_hour = hour);
		-- The parent first, as those do who insert: two who lock in one order never wait for each other.
		lock table only message_source in access exclusive mode;
		execute format('lock table public.message_source_h%s in access exclusive mode', hour);
		continue when exists (select from messages where expiry_hour = hour);
		execute format('drop table public.message_source_h%s', hour);
		return 1;
	end loop;
	for r in
		select d.bucket, d.id, d.chunk, d.expiry_hour from message_source_default d
		where d.expiry_hour <= due and not exists (select from messages m where m.expiry_hour = d.expiry_hour)
		limit most
	loop
		delete from message_source
		where bucket = r.bucket and id = r.id and chunk = r.chunk and expiry_hour = r.expiry_hour;
		gone := gone + 1;
	end loop;
	return gone;
exception when lock_not_available then
	return -1;
end
$$;
-- step
-- Mailboxes that are dead and cannot come back, `most` a call, and their lines in the lists of their owners.
create function janitor_delete_mailboxes(at timestamptz, most int) returns int
	language plpgsql security definer set search_path = pg_catalog, public, pg_temp
as $$
declare
	before timestamptz := at - interval '10 minutes';
	r record;
	gone int := 0;
begin
	if not janitor_lock() then
		return -1;
	end if;
	for r in
		select bucket, id, account_id from mailboxes
		where not recoverable and expires_at <= before order by expires_at limit most
	loop
		-- Still so? Its owner may have made it recoverable, or somebody else taken the address.
		delete from mailboxes where bucket = r.bucket and id = r.id and not recoverable and expires_at <= before;
		if found then
			delete from account_mailboxes where account_id = r.account_id and mailbox_id = r.id;
		end if;
		gone := gone + 1;
	end loop;
	return gone;
end
$$;
-- step
-- What a crash or a race may have left behind in one bucket: lines of owners' lists without a mailbox, messages without
-- a live mailbox (it was deleted while they arrived), sources without a message. Sources that expire soon are left to
-- their partition's drop, which costs nothing. At most `most` messages a call; returns how many went of all three.
create function janitor_sweep_bucket(at timestamptz, in_bucket int, most int) returns int
	language plpgsql security definer set search_path = pg_catalog, public, pg_temp
as $$
declare
	this constant smallint := in_bucket;
	settled constant uuid := janitor_id_settled(at);
	soon constant int := janitor_hour(at) + 2;
	box uuid := '00000000-0000-0000-0000-000000000000';
	r record;
	gone int := 0;
	n int;
begin
	if not janitor_lock() then
		return -1;
	end if;
	-- The list first, then the mailbox: whoever makes both makes them at once, so the later look cannot miss one.
	for r in select account_id, mailbox_id from account_mailboxes where bucket = this and mailbox_id < settled loop
		exit when gone >= most;
		perform from mailboxes where bucket = this and id = r.mailbox_id;
		if not found then
			delete from account_mailboxes where account_id = r.account_id and mailbox_id = r.mailbox_id;
			gone := gone + 1;
		end if;
	end loop;
	-- From mailbox to mailbox along messages_list, so that a mailbox costs one step however much is in it.
	loop
		select mailbox_id into box from messages
		where bucket = this and mailbox_id > box order by bucket, mailbox_id limit 1;
		exit when not found or gone >= most;
		perform from mailboxes
		where bucket = this and id = box and (expires_at is null or expires_at > at - interval '10 minutes');
		continue when found;
		for r in
			select id, expiry_hour from messages
			where bucket = this and mailbox_id = box and expiry_hour > soon and id < settled limit most - gone
		loop
			delete from messages where bucket = this and id = r.id;
			delete from message_source where bucket = this and id = r.id and expiry_hour = r.expiry_hour;
			gone := gone + 1;
		end loop;
	end loop;
	delete from message_source s
	where s.bucket = this and s.expiry_hour = 2147483647 and s.id < settled
		and not exists (select from messages m where m.bucket = this and m.id = s.id);
	get diagnostics n = row_count;
	return gone + n;
end
$$;
-- step
revoke all on function janitor_lock(), janitor_hour(timestamptz), janitor_hour_due(timestamptz),
	janitor_id_settled(timestamptz), janitor_make_partitions(timestamptz, int, int),
	janitor_expire_messages(timestamptz, int), janitor_drop_sources(timestamptz, int),
	janitor_delete_mailboxes(timestamptz, int), janitor_sweep_bucket(timestamptz, int, int) from public;
-- step
grant execute on function janitor_make_partitions(timestamptz, int, int), janitor_expire_messages(timestamptz, int),
	janitor_drop_sources(timestamptz, int), janitor_delete_mailboxes(timestamptz, int),
	janitor_sweep_bucket(timestamptz, int, int) to minutemail_apid;
