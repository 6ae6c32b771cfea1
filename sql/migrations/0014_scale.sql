-- What was not flat at a million mailboxes and ten million messages (tests/bench/scale).

-- The list of what an owner has archived went through all that the owner has, and a key of one domain through the mailboxes in
-- all others: now the index alone tells which lines are wanted.
create index account_mailboxes_archived on account_mailboxes (account_id, user_id, mailbox_id) include (domain_id, expires_at)
	where recoverable;
-- step
drop index account_mailboxes_user;
-- step
create index account_mailboxes_user on account_mailboxes (account_id, user_id, mailbox_id) include (domain_id, expires_at);
-- step
-- Looks at every mailbox and every source that never expires, all buckets in 64 minutes. It asks the indexes only: what is in
-- order, nearly all, is never fetched from the tables. Statements stay apart where the tables they compare may lie on different
-- nodes. What a crash or a race may have left behind: see 0003_janitor.sql.
create or replace function janitor_sweep_bucket(at timestamptz, in_bucket int, most int) returns int
	language plpgsql security definer set search_path = pg_catalog, public, pg_temp
as $$
declare
	this constant smallint := in_bucket;
	settled constant uuid := janitor_id_settled(at);
	soon constant int := janitor_hour(at) + 2;
	box uuid;
	boxes uuid[];
	r record;
	gone int := 0;
	n int;
begin
	if not janitor_lock() then
		return -1;
	end if;
	-- The list first, then the mailbox: whoever makes both makes them at once, so the later look cannot miss one.
	select array_agg(mailbox_id) into boxes from account_mailboxes where bucket = this and mailbox_id < settled;
	select array_agg(i) into boxes
	from (select i from unnest(boxes) i where not exists (select from mailboxes where bucket = this and id = i) limit most) x;
	for r in select account_id, mailbox_id from account_mailboxes where bucket = this and mailbox_id = any (boxes) loop
		delete from account_mailboxes where account_id = r.account_id and mailbox_id = r.mailbox_id;
		gone := gone + 1;
	end loop;
	-- From mailbox to mailbox along messages_list, so that a mailbox costs one step however much is in it.
	with recursive step (id) as (
		(select mailbox_id from messages where bucket = this order by bucket, mailbox_id limit 1)
		union all
		select (select mailbox_id from messages where bucket = this and mailbox_id > step.id order by bucket, mailbox_id limit 1)
		from step where step.id is not null
	)
	select array_agg(id) into boxes from step where id is not null;
	select array_agg(i) into boxes
	from unnest(boxes) i
	where not exists (select from mailboxes where bucket = this and id = i and (expires_at is null or expires_at > at - interval '10 minutes'));
	foreach box in array coalesce(boxes, '{}') loop
		exit when gone >= most;
		for r in
			select id, expiry_hour from messages
			where bucket = this and mailbox_id = box and expiry_hour > soon and id < settled limit most - gone
		loop
			delete from messages where bucket = this and id = r.id;
			delete from message_source where bucket = this and id = r.id and expiry_hour = r.expiry_hour;
			gone := gone + 1;
		end loop;
	end loop;
	delete from message_source
	where bucket = this and expiry_hour = 2147483647 and id = any (array(
		select s.id from message_source s
		where s.bucket = this and s.expiry_hour = 2147483647 and s.id < settled
			and not exists (select from messages m where m.bucket = this and m.id = s.id)));
	get diagnostics n = row_count;
	return gone + n;
end
$$;
-- step
drop function janitor_expire_messages(timestamptz, int);
-- step
-- The oldest due hour's rows of messages, `most` a call, or as many as move about 64 MB; handled: how many. They go by bucket, and
-- the next call goes on where this one came to: in_hour and from_bucket are the last one's hour and bucket, 0 and 0 at first.
-- Without that it would pass all rows that are gone already, and look at each as long as anybody's snapshot is older.
create function janitor_expire_messages(at timestamptz, in_hour int, from_bucket int, most int, out handled int, out hour int,
	out to_bucket int)
	language plpgsql security definer set search_path = pg_catalog, public, pg_temp
as $$
declare
	due constant int := janitor_hour_due(at);
	r record;
	in_bucket smallint;
	dead uuid[] := '{}';
	moved bigint := 0;
begin
	hour := in_hour;
	to_bucket := from_bucket;
	if not janitor_lock() then
		handled := -1;
		return;
	end if;
	handled := 0;
	if hour > due or not exists (select from messages where expiry_hour = hour and bucket >= to_bucket) then
		select min(expiry_hour), 0 into hour, to_bucket from messages where expiry_hour <= due;
		if hour is null then
			hour := 0;
			return;
		end if;
	end if;
	for r in
		select m.bucket, m.id, m.size, janitor_hour(b.expires_at) as later,
			b.id is not null and (b.expires_at is null or b.expires_at > at) as lives
		from (
			select bucket, id, mailbox_id, size from messages
			where expiry_hour = hour and bucket >= to_bucket order by bucket limit most
		) m
		left join mailboxes b on b.bucket = m.bucket and b.id = m.mailbox_id
		order by m.bucket
	loop
		if in_bucket is distinct from r.bucket then
			delete from messages where bucket = in_bucket and id = any (dead) and expiry_hour = hour;
			in_bucket := r.bucket;
			dead := '{}';
		end if;
		handled := handled + 1;
		if not r.lives then
			dead := dead || r.id;
			continue;
		end if;
		-- The message first: its row lock is what a deletion at the same moment waits for, and then finds the new hour.
		update messages set expiry_hour = r.later where bucket = r.bucket and id = r.id and expiry_hour = hour;
		if found then
			update message_source set expiry_hour = r.later where bucket = r.bucket and id = r.id and expiry_hour = hour;
			moved := moved + r.size;
			exit when moved > 64 * 1024 * 1024;
		end if;
	end loop;
	delete from messages where bucket = in_bucket and id = any (dead) and expiry_hour = hour;
	to_bucket := coalesce(in_bucket, to_bucket);
end
$$;
-- step
revoke all on function janitor_expire_messages(timestamptz, int, int, int) from public;
-- step
grant execute on function janitor_expire_messages(timestamptz, int, int, int) to minutemail_apid;
