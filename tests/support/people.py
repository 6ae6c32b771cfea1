"""People for the tests of the console: users with a password, in accounts of their own."""

import time

from client import Api

PASSWORD = "a long enough password"


def address(system):
    return system.info["http"].removeprefix("http://")


def make_account(system, plan="unlimited"):
    name = f"people-{time.time_ns()}"
    system.ctl("account", "create", name, "--plan", plan)
    return name


def make_person(system, plan="unlimited", account=None, role="owner", password=PASSWORD):
    """Returns the address."""
    email = f"person-{time.time_ns()}@example.com"
    system.ctl("user", "create", email, "--account", account or make_account(system, plan), "--role", role)
    system.ctl("user", "password", email, text=password + "\n")
    return email


def login(system, email, password, **headers):
    return Api(address(system), None).post("/v1/auth/login", {"email": email, "password": password}, headers=headers)
