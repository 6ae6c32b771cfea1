-- A compressed source of 2 to 4 KB, which is what most mail comes to, stays in its row: two of them fill a page, and the piece in the
-- TOAST table, with its index entry, is not written and not looked up again. A partition does not have this from its parent, so
-- janitor_make_partitions says it for each.

do $$
declare
	part regclass;
begin
	for part in select inhrelid::regclass from pg_inherits where inhparent = 'message_source'::regclass loop
		execute format('alter table %s set (toast_tuple_target = 4080)', part);
	end loop;
end
$$;
-- step
-- Partitions from the current hour to `ahead` hours later, at most `most` of them a call. Made apart and then attached:
-- that takes no lock that an insert into another partition waits for. An hour of which the default partition has rows
-- already stays there.
create or replace function janitor_make_partitions(at timestamptz, ahead int, most int) returns int
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
			execute format('create table public.message_source_h%s (like public.message_source including all)'
				' with (toast_tuple_target = 4080)', hour);
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
