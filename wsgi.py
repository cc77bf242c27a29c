"""The service: `python wsgi.py`, or the application `wsgi:app` for any other WSGI server.

`gunicorn wsgi:app` reads gunicorn.conf.py beside this file, so that its workers count together.
"""

if __name__ == "__main__":
    from app.server import main

    main()
else:
    from app import create_app
    from app.logs import escape_commands

    escape_commands()
    app = create_app()
