-- What was asked of the API, kept 30 days, and how much of it by each key a day. Both are written by one statement from batches of
-- apid's (apid/audit.h). id is of version 7, made by apid: the newest is the greatest, and a batch written again is known.

-- key_id null: a session of the console. status 499: the client left before its answer.
create table api_audit (
	account_id uuid not null,
	id uuid not null,
	at timestamptz not null,
	user_id uuid not null,
	key_id uuid,
	key_name text,
	key_last8 text,
	method text not null,
	route text,
	status smallint not null,
	request_id text not null,
	primary key (account_id, id, at)
) partition by range (at);
-- step
create table api_audit_default partition of api_audit default;
-- step
-- day: whole days since 1970, UTC.
create table api_key_usage (
	account_id uuid not null,
	key_id uuid not null,
	day int not null,
	user_id uuid not null,
	calls bigint not null,
	primary key (account_id, day, key_id)
);
-- step
grant select, insert on api_audit to minutemail_apid;
-- step
grant select, insert, update (calls) on api_key_usage to minutemail_apid;
-- step
-- The partitions of this day and the next two, and the end of what is older than 30 days; `most` pieces or thousands of rows a
-- call. A day of which the default partition has rows already stays there.
create function janitor_days(at timestamptz, most int) returns int
	language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '500ms' set timezone = 'UTC'
as $$
declare
	today constant int := floor(extract(epoch from at) / 86400)::int;
	r record;
	gone int := 0;
	n int;
	d int;
begin
	if not janitor_lock() then
		return -1;
	end if;
	for d in today .. today + 2 loop
		continue when to_regclass(format('public.api_audit_d%s', d)) is not null
			or exists (select from api_audit_default a where a.at >= to_timestamp(d * 86400::bigint)
				and a.at < to_timestamp((d + 1) * 86400::bigint));
		begin
			execute format('create table public.api_audit_d%s (like public.api_audit including all)', d);
			execute format('alter table public.api_audit attach partition public.api_audit_d%s for values from (%L) to (%L)', d,
				to_timestamp(d * 86400::bigint), to_timestamp((d + 1) * 86400::bigint));
		exception when check_violation then
			null;
		end;
	end loop;
	for r in
		select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
		where i.inhparent = 'public.api_audit'::regclass and c.relname ~ '^api_audit_d[0-9]+$'
			and substr(c.relname, 12)::int < today - 30
	loop
		lock table only api_audit in access exclusive mode;
		execute format('drop table public.%I', r.relname);
		return 1;
	end loop;
	delete from api_audit_default a where ctid = any (array(
		select ctid from api_audit_default o where o.at < to_timestamp((today - 30) * 86400::bigint) limit most * 1000));
	get diagnostics gone = row_count;
	delete from api_key_usage where day < today - 31;
	get diagnostics n = row_count;
	delete from api_usage where day < today - 31;
	return (gone + n) / 1000;
exception when lock_not_available then
	return -1;
end
$$;
-- step
revoke all on function janitor_days(timestamptz, int) from public;
-- step
grant execute on function janitor_days(timestamptz, int) to minutemail_apid;
