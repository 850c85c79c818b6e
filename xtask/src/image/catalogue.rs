//! Which images there are and what is in each: read this first.

/// An image, as data.
#[derive(Debug)]
pub(super) struct Recipe {
    /// The image is `culvert.dev/NAME:VERSION`.
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) description: &'static str,
    /// Layers made of Debian packages, lowest first.
    pub(super) base: &'static [&'static Base],
    /// Programs built from this repository.
    pub(super) programs: &'static [Program],
    /// Files of this repository: where they are in it, and where in the image.
    pub(super) files: &'static [(&'static str, &'static str)],
    pub(super) entrypoint: &'static [&'static str],
    /// Who it runs as. Kubernetes checks `runAsNonRoot` against a number, not against a name.
    pub(super) user: User,
    /// TCP ports that others may connect to.
    pub(super) ports: &'static [u16],
    pub(super) environment: &'static [(&'static str, &'static str)],
}

/// A layer made of Debian packages.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) name: &'static str,
    pub(super) packages: &'static [Debian],
    /// Links: where, and to what.
    pub(super) links: &'static [(&'static str, &'static str)],
    /// Files given word by word.
    pub(super) texts: &'static [(&'static str, &'static str)],
}

/// A Debian package and the parts of it that are wanted.
#[derive(Debug)]
pub(super) struct Debian {
    pub(super) name: &'static str,
    /// Prefixes of paths; none means all.
    pub(super) only: &'static [&'static str],
    /// Prefixes of paths that are left out.
    pub(super) without: &'static [&'static str],
}

/// A program of this workspace.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// The cargo package.
    pub(super) package: &'static str,
    /// The program in it.
    pub(super) binary: &'static str,
    /// Where it is in the image.
    pub(super) path: &'static str,
    pub(super) linkage: Linkage,
}

/// How a program finds its libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Linkage {
    /// In the image's base.
    Dynamic,
    /// It has them inside, because it is copied to machines with any libraries or none.
    Static,
}

/// The user of an image's program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum User {
    /// Starts as root, because capabilities granted by Kubernetes reach a process only that way.
    Root,
    /// The usual number for "nobody in particular" in distroless images.
    Nonroot,
}

impl User {
    /// User and group as an image's configuration has them.
    pub(super) fn numbers(self) -> &'static str {
        match self {
            Self::Root => "0:0",
            Self::Nonroot => "65532:65532",
        }
    }
}

const fn debian(name: &'static str) -> Debian {
    Debian {
        name,
        only: &[],
        without: &[],
    }
}

const fn dynamic(package: &'static str, binary: &'static str, path: &'static str) -> Program {
    Program {
        package,
        binary,
        path,
        linkage: Linkage::Dynamic,
    }
}

/// What a dynamically linked Rust program needs to start, and a program that looks up names.
static GLIBC: Base = Base {
    name: "base",
    packages: &[
        Debian {
            name: "base-files",
            only: &[
                "etc/debian_version",
                "etc/os-release",
                "usr/lib/os-release",
                "usr/share/doc/base-files/copyright",
            ],
            without: &[],
        },
        // Its documents are those of libgcc-s1, too.
        debian("gcc-12-base"),
        Debian {
            name: "libc6",
            only: &[],
            // Conversions between character sets, which nothing here asks for.
            without: &["usr/lib/x86_64-linux-gnu/gconv/", "usr/lib/aarch64-linux-gnu/gconv/"],
        },
        debian("libgcc-s1"),
    ],
    links: &[],
    texts: &[
        (
            "etc/passwd",
            "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n",
        ),
        ("etc/group", "root:x:0:\nnonroot:x:65532:\n"),
        ("etc/nsswitch.conf", "hosts: files dns\n"),
    ],
};

/// Whom the world trusts: what a proxy verifies servers by where it is to go by its system.
static AUTHORITIES: Base = Base {
    name: "authorities",
    packages: &[Debian {
        name: "ca-certificates",
        only: &["usr/share/ca-certificates/", "usr/share/doc/ca-certificates/copyright"],
        without: &[],
    }],
    links: &[],
    texts: &[],
};

/// Python and the parts of its library that a small server uses.
static PYTHON: Base = Base {
    name: "python",
    packages: &[
        debian("libexpat1"),
        debian("libpython3.11-minimal"),
        Debian {
            name: "libpython3.11-stdlib",
            only: &[],
            // Tools, tests, and modules for libraries that the image does not have.
            without: &[
                "usr/lib/python3.11/ensurepip/",
                "usr/lib/python3.11/idlelib/",
                "usr/lib/python3.11/lib2to3/",
                "usr/lib/python3.11/pydoc",
                "usr/lib/python3.11/test/",
                "usr/lib/python3.11/lib-dynload/_bz2.",
                "usr/lib/python3.11/lib-dynload/_crypt.",
                "usr/lib/python3.11/lib-dynload/_ctypes",
                "usr/lib/python3.11/lib-dynload/_curses",
                "usr/lib/python3.11/lib-dynload/_dbm.",
                "usr/lib/python3.11/lib-dynload/_lzma.",
                "usr/lib/python3.11/lib-dynload/_sqlite3.",
                "usr/lib/python3.11/lib-dynload/_test",
                "usr/lib/python3.11/lib-dynload/_uuid.",
                "usr/lib/python3.11/lib-dynload/_xx",
                "usr/lib/python3.11/lib-dynload/nis.",
                "usr/lib/python3.11/lib-dynload/readline.",
                "usr/lib/python3.11/lib-dynload/xx",
            ],
        },
        debian("libssl3"),
        debian("python3.11-minimal"),
        debian("zlib1g"),
    ],
    links: &[("usr/bin/python3", "python3.11")],
    texts: &[],
};

static PYTHON_LAYERS: [&Base; 2] = [&GLIBC, &PYTHON];

/// A shell and its tools in one program, for tests that look into a pod.
static BUSYBOX: Base = Base {
    name: "busybox",
    packages: &[debian("busybox-static")],
    links: &[
        ("bin/cat", "busybox"),
        ("bin/env", "busybox"),
        ("bin/ip", "busybox"),
        ("bin/ls", "busybox"),
        ("bin/nc", "busybox"),
        ("bin/nslookup", "busybox"),
        ("bin/ps", "busybox"),
        ("bin/sh", "busybox"),
        ("bin/sleep", "busybox"),
        ("bin/timeout", "busybox"),
        ("bin/true", "busybox"),
        ("bin/wget", "busybox"),
    ],
    texts: &[],
};

/// Python's bytecode cannot be kept on a read-only root, and log lines should come as they are written.
const PYTHON_ENVIRONMENT: &[(&str, &str)] = &[("PYTHONDONTWRITEBYTECODE", "1"), ("PYTHONUNBUFFERED", "1")];

/// All images, the mesh's own first.
pub(super) static RECIPES: &[Recipe] = &[
    Recipe {
        name: "agent",
        title: "Culvert agent",
        description: "Loads the kernel programs of a node and enrols its pods; carries the CNI plug-in that it installs",
        base: &[&GLIBC],
        programs: &[
            dynamic("culvert-agent", "culvert-agent", "culvert-agent"),
            Program {
                package: "culvert-cni",
                binary: "culvert-cni",
                path: "culvert-cni",
                linkage: Linkage::Static,
            },
        ],
        files: &[],
        entrypoint: &["/culvert-agent"],
        // CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN and more, to load programs and to enter pods' namespaces.
        user: User::Root,
        ports: &[15022, 15023],
        environment: &[],
    },
    Recipe {
        name: "ztunnel",
        title: "Culvert ztunnel",
        description: "The node's proxy: carries the traffic of enrolled pods in mutual TLS",
        base: &[&GLIBC],
        programs: &[dynamic("culvert-ztunnel", "culvert-ztunnel", "culvert-ztunnel")],
        files: &[],
        entrypoint: &["/culvert-ztunnel"],
        // Its monitor makes sockets inside pods' namespaces; the worker gives up every capability before it reads a byte.
        user: User::Root,
        ports: &[15020, 15021],
        environment: &[],
    },
    Recipe {
        name: "controller",
        title: "Culvert controller",
        description: "Turns Kubernetes objects into the proxies' configuration, and signs their certificates",
        base: &[&GLIBC],
        programs: &[dynamic(
            "culvert-controller",
            "culvert-controller",
            "culvert-controller",
        )],
        files: &[],
        entrypoint: &["/culvert-controller"],
        user: User::Nonroot,
        ports: &[15012, 15014, 15024],
        environment: &[],
    },
    Recipe {
        name: "waypoint",
        title: "Culvert waypoint",
        description: "The layer-7 proxy of services that ask for one",
        base: &[&GLIBC, &AUTHORITIES],
        programs: &[dynamic("culvert-waypoint", "culvert-waypoint", "culvert-waypoint")],
        files: &[],
        entrypoint: &["/culvert-waypoint"],
        user: User::Nonroot,
        ports: &[15008, 15020, 15021],
        // Debian makes one file of them when it is installed, which nobody is here.
        environment: &[("SSL_CERT_DIR", "/usr/share/ca-certificates/mozilla")],
    },
    bookstore_python(
        "bookstore-productpage",
        "The page that a visitor of the example shop sees",
        &[("examples/bookstore/productpage/productpage.py", "app/productpage.py")],
        &["/usr/bin/python3.11", "/app/productpage.py"],
    ),
    bookstore_python(
        "bookstore-details",
        "What the example shop knows about its books",
        &[("examples/bookstore/details/details.py", "app/details.py")],
        &["/usr/bin/python3.11", "/app/details.py"],
    ),
    bookstore_python(
        "bookstore-ratings",
        "How many stars the readers of the example shop gave",
        &[("examples/bookstore/ratings/ratings.py", "app/ratings.py")],
        &["/usr/bin/python3.11", "/app/ratings.py"],
    ),
    Recipe {
        name: "bookstore-reviews",
        title: "Bookstore reviews",
        description: "What readers of the example shop say, in three versions",
        base: &[&GLIBC],
        programs: &[dynamic("bookstore-reviews", "bookstore-reviews", "bookstore-reviews")],
        files: &[],
        entrypoint: &["/bookstore-reviews"],
        user: User::Nonroot,
        ports: &[9080],
        environment: &[],
    },
    Recipe {
        ports: &[],
        ..bookstore_python(
            "bookstore-visitor",
            "A visitor of the example shop, who asks for book after book and says how it went",
            &[("examples/bookstore/visitor/visitor.py", "app/visitor.py")],
            &["/usr/bin/python3.11", "/app/visitor.py"],
        )
    },
    Recipe {
        name: "bench",
        title: "Culvert benchmark",
        description: "Client and server of `culvert bench`",
        base: &[&GLIBC],
        programs: &[dynamic("culvert-bench", "culvert-bench", "culvert-bench")],
        files: &[],
        entrypoint: &["/culvert-bench"],
        user: User::Nonroot,
        ports: &[],
        environment: &[],
    },
    Recipe {
        name: "probe",
        title: "Culvert probe",
        description: "For tests only: client and server that know every way to connect, and a shell",
        base: &[&GLIBC, &BUSYBOX],
        programs: &[dynamic("culvert-tests", "probe", "probe")],
        files: &[],
        entrypoint: &["/probe"],
        user: User::Nonroot,
        ports: &[],
        environment: &[],
    },
];

const fn bookstore_python(
    name: &'static str,
    description: &'static str,
    files: &'static [(&'static str, &'static str)],
    entrypoint: &'static [&'static str],
) -> Recipe {
    Recipe {
        name,
        title: "Culvert's example bookstore",
        description,
        base: &PYTHON_LAYERS,
        programs: &[],
        files,
        entrypoint,
        user: User::Nonroot,
        ports: &[9080],
        environment: PYTHON_ENVIRONMENT,
    }
}
