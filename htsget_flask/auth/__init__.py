"""Access control: authentication (tokens, passports), authorization (rules, a policy service), signed URLs, audit log.

Nothing here knows a view or a web framework.
"""
