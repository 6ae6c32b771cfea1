-- The people and keys of an account, in the order of their lists, and what goes with a user: each was a scan of everybody's.
create index users_account on users (account_id, id);
-- step
create index api_keys_account on api_keys (account_id, id);
-- step
create index api_keys_user on api_keys (user_id);
