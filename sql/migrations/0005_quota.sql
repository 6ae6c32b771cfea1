-- Quotas: one row for an account and day, from which apid's workers lease calls a few at a time (apid/quota.h). Days and
-- minutes are whole ones since 1970, UTC, by the clock of who asks: a retry or a slow transaction means the same day.
-- apid reaches the ledger through these functions and no other way, so that no limit is passed whatever it asks.

-- calls: leased, less what came back unused. minute: the latest one in which any were leased, minute_calls: how many in it.
create table api_usage (
	account_id uuid not null,
	day int not null,
	calls bigint not null,
	minute int not null,
	minute_calls bigint not null,
	primary key (account_id, day)
) with (fillfactor = 50);
-- step
-- Grants `need` calls as long as there are so many, and beyond that up to `want`, but then no more than a 64th of what is
-- left of either limit: leases shrink towards the end, and the last calls go only to who has a request waiting. null: no
-- limit. Granted fewer than needed: the account is at its limit; with `recall` all workers are asked to give back what they
-- hold. A minute older than the row's (another clock is ahead) is charged to the row's, which can only make it stricter.
create function quota_lease(for_account uuid, for_day int, for_minute int, need bigint, want bigint, per_day bigint,
	per_minute bigint, recall boolean, out granted bigint, out day_calls bigint, out in_minute bigint)
	language plpgsql security definer set search_path = pg_catalog, public, pg_temp
as $$
declare
	r api_usage;
	day_left bigint;
	minute_left bigint;
begin
	select * into r from api_usage where account_id = for_account and day = for_day for no key update;
	if not found then
		insert into api_usage values (for_account, for_day, 0, for_minute, 0) on conflict do nothing;
		select * into r from api_usage where account_id = for_account and day = for_day for no key update;
	end if;
	if r.minute < for_minute then
		r.minute := for_minute;
		r.minute_calls := 0;
	end if;
	-- least() and greatest() leave nulls out.
	day_left := greatest(per_day - r.calls, 0 * per_day);
	minute_left := greatest(per_minute - r.minute_calls, 0 * per_minute);
	granted := least(greatest(need, least(want, day_left / 64, minute_left / 64)), day_left, minute_left);
	day_calls := r.calls + granted;
	in_minute := r.minute_calls + granted;
	if granted > 0 then
		update api_usage set calls = day_calls, minute = r.minute, minute_calls = in_minute
		where account_id = for_account and day = for_day;
	end if;
	if granted < need and recall then
		perform pg_notify('minutemail_quota', for_account::text);
	end if;
end
$$;
-- step
-- What was leased in this minute of this day and not used.
create function quota_return(for_account uuid, for_day int, for_minute int, unused bigint) returns void
	language sql security definer set search_path = pg_catalog, public, pg_temp
as $$
	update api_usage
	set calls = greatest(calls - unused, 0),
		minute_calls = case when minute = for_minute then greatest(minute_calls - unused, 0) else minute_calls end
	where account_id = for_account and day = for_day
$$;
-- step
revoke all on function quota_lease(uuid, int, int, bigint, bigint, bigint, bigint, boolean),
	quota_return(uuid, int, int, bigint) from public;
-- step
grant execute on function quota_lease(uuid, int, int, bigint, bigint, bigint, bigint, boolean),
	quota_return(uuid, int, int, bigint) to minutemail_apid;
